//! The files that a configuration names: certificates, keys, tokens, passwords.
//!
//! This crate does not open them. Whoever checks a configuration on the machine that it is for
//! can look whether they are there, and whether secrets are kept from others.

use crate::model::{
    CheckerConfig, ClientTls, Command, Config, ControllerClient, ControllerConfig, Credential,
    Store,
};
use crate::{Configuration, report::quote};
use std::path::Path;

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile<'c> {
    /// Where it is named, as messages say it: `[tls]: key`.
    pub place: String,
    /// An absolute path.
    pub path: &'c Path,
    /// What it is to the program.
    pub content: Content,
}

/// What a file is to the program that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// For anybody to see: a certificate.
    Public,
    /// To be kept from others: a private key, a token, a password.
    Secret,
    /// To be run.
    Program,
}

impl Configuration {
    /// The files it names, in the order of the documentation; no other is opened for it later,
    /// save in its state directory.
    pub fn files(&self) -> Vec<NamedFile<'_>> {
        let mut files = Vec::new();
        match self {
            Self::Node(config) => of_node(config, &mut files),
            Self::Controller(config) => of_controller(config, &mut files),
            Self::Checker(config) => of_checker(config, &mut files),
        }
        files
    }
}

fn of_node<'c>(config: &'c Config, files: &mut Vec<NamedFile<'c>>) {
    if let Some(path) = &config.node.admin_token_file {
        files.push(secret("[node]: admin_token_file", path));
    }
    if let Some(controller) = &config.controller {
        of_client(controller, files);
    }
}

fn of_controller<'c>(config: &'c ControllerConfig, files: &mut Vec<NamedFile<'c>>) {
    if let Store::Etcd(etcd) = &config.registry.store {
        if let Some(tls) = &etcd.tls {
            of_client_tls("[registry]", tls, files);
        }
        if let Some(user) = &etcd.user {
            files.push(secret("[registry]: password_file", &user.password_file));
        }
    }
    if let Some(tls) = &config.tls {
        files.push(public("[tls]: certificate", &tls.identity.certificate));
        files.push(secret("[tls]: key", &tls.identity.key));
        files.extend(tls.client_ca.as_ref().map(|path| public("[tls]: client_ca", path)));
    }
    for access in &config.access {
        if let Credential::TokenFile(path) = &access.credential {
            files.push(secret(&format!("access {}: token_file", quote(&access.name)), path));
        }
    }
}

fn of_checker<'c>(config: &'c CheckerConfig, files: &mut Vec<NamedFile<'c>>) {
    files.extend(config.checker.probe_ca.as_ref().map(|path| public("[checker]: probe_ca", path)));
    of_client(&config.controller, files);
    for Command { name, argv } in &config.commands {
        files.extend(argv.first().map(|program| NamedFile {
            place: format!("command {}: argv", quote(name)),
            path: Path::new(program),
            content: Content::Program,
        }));
    }
}

fn of_client<'c>(client: &'c ControllerClient, files: &mut Vec<NamedFile<'c>>) {
    if let Some(tls) = &client.tls {
        of_client_tls("[controller]", tls, files);
    }
    files.extend(client.token_file.as_ref().map(|path| secret("[controller]: token_file", path)));
}

fn of_client_tls<'c>(section: &str, tls: &'c ClientTls, files: &mut Vec<NamedFile<'c>>) {
    files.push(public(&format!("{section}: ca"), &tls.ca));
    if let Some(identity) = &tls.identity {
        files.push(public(&format!("{section}: certificate"), &identity.certificate));
        files.push(secret(&format!("{section}: key"), &identity.key));
    }
}

fn public<'c>(place: &str, path: &'c Path) -> NamedFile<'c> {
    NamedFile { place: place.to_owned(), path, content: Content::Public }
}

fn secret<'c>(place: &str, path: &'c Path) -> NamedFile<'c> {
    NamedFile { place: place.to_owned(), path, content: Content::Secret }
}
