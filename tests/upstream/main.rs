//! How we ask Atlas, over real sockets, against a local Atlas that enforces what Atlas enforces.

mod world;

mod answers;
mod budgets;
mod digest;
mod lists;
mod moments;
mod network;
mod tokens;
