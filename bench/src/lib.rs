//! Benchmarks of the whole path: Weir and testpmd on the same packet source, in the same minute.
//!
//! [`capture`] writes the sources from [`flows`] and [`frame`]s. [`scenario`] is the node under
//! test, as an operator would configure it; [`weir`] runs it as `weir run` does, with a
//! [`sampled`] port whose packets [`verify`] compares byte by byte; [`testpmd`] is the yardstick.
//! [`side_by_side`] interleaves them; [`swaps`] exchanges tables meanwhile, and looks at [`gaps`]
//! between polls. The [`generator`] makes packets instead of reading them, at a rate, and measures
//! how long they were on their way: [`latency`], through a node at the end of a [`cable`], or with [`generate`] over
//! any device. Single parts are measured in `benches/`.
//!
//! Why a rate is what it is: [`stages`] times the parts of the round in the running path,
//! [`stage_table`] does so for all cases; [`instructions`] counts instead, with what [`callgrind`]
//! writes, and from which source it was [`inlined`]. What all of it ran on: [`machine`].
//!
//! [`fleet`] is the other half: the control plane at full size, with processes of `weir`.

#![forbid(unsafe_code)]

pub mod cable;
pub mod callgrind;
pub mod capture;
pub mod cpu_time;
pub mod figures;
pub mod fleet;
pub mod flows;
pub mod frame;
pub mod gaps;
pub mod generate;
pub mod generator;
pub mod histogram;
pub mod inlined;
pub mod instructions;
pub mod latency;
pub mod machine;
pub mod sampled;
pub mod scenario;
pub mod side_by_side;
pub mod stage_table;
pub mod stages;
pub mod swaps;
pub mod testpmd;
pub mod verify;
pub mod weir;
pub mod workers;
