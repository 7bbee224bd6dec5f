//! Tests of the trainer, in one binary: linking takes longer than most of them.

mod chain_model;
mod chat;
mod data;
mod golden;
mod gradients;
mod initial_weights;
mod model;
mod models;
mod recipes;
mod shipped;
mod study;
mod training;
