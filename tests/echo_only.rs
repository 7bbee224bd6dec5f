#[path = "it/echo/mod.rs"]
mod echo;
