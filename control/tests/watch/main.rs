//! The node fed by a controller: what it takes, what it refuses, what it survives.

mod admin;
mod candidates;
mod controller;
mod disk;
mod feed;
mod messages;
mod sets;
mod stream;
