//! `colm kv-store`: inspects and maintains a KV store.

use std::io::Write;
use std::time::SystemTime;

use anyhow::{bail, Result};
use clap::{Args, Subcommand};
use colm_kv_store::{check, prune, stat, StoreUrl};

use super::output::Stdout;
use super::parsers::gigabytes;
use super::progress::progress;

/// Inspect and maintain a KV store (--kv-store of `colm serve`), also while servers use it.
#[derive(Args)]
pub struct KvStoreCommand {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Count blocks and bytes.
    Stat {
        /// The store, such as `file:///var/cache/colm/kv`.
        url: String,
    },
    /// Verify every block. The exit code is 1 if some are damaged and were not deleted.
    Check {
        /// The store, such as `file:///var/cache/colm/kv`.
        url: String,
        /// Delete the damaged blocks.
        #[arg(long)]
        delete: bool,
    },
    /// Delete the least recently used blocks of a file store.
    Prune {
        /// The store, such as `file:///var/cache/colm/kv`.
        url: String,
        /// How much may be left.
        #[arg(long, value_name = "GB", value_parser = gigabytes)]
        gb: u64,
    },
}

/// Does the task and prints what it has found.
pub async fn run(command: KvStoreCommand) -> Result<()> {
    match command.task {
        Task::Stat { url } => {
            let url = parse(&url)?;
            let found = stat(&url).await?;
            line(&format!("blocks: {}", found.blocks))?;
            line(&format!("bytes: {}", found.bytes))?;
            for (name, time) in [
                ("least recently used", found.least_recently_used),
                ("most recently used", found.most_recently_used),
            ] {
                if let Some(time) = time {
                    line(&format!("{name}: {} s ago", seconds_since(time)))?;
                }
            }
            if found.temporary_files > 0 {
                line(&format!("temporary files: {}", found.temporary_files))?;
            }
            skipped("unreadable", found.unreadable)?;
        }
        Task::Check { url, delete } => {
            let url = parse(&url)?;
            let bar = progress(0);
            let report = check(&url, delete, |report| {
                bar.set_length(report.blocks);
                bar.set_position(report.checked);
            });
            let report = report.await?;
            bar.finish_and_clear();
            for (key, damage) in &report.damaged {
                line(&format!("{key}: {damage}"))?;
            }
            let (checked, damaged) = (report.checked, report.damaged.len());
            line(&format!("{checked} blocks, {damaged} damaged, {} deleted", report.deleted))?;
            skipped("blocks of other versions of colm", report.other_versions)?;
            skipped("unreadable folders", report.unreadable)?;
            if damaged as u64 > report.deleted {
                let left = damaged as u64 - report.deleted;
                let advice = if delete { "" } else { "; --delete deletes them" };
                bail!("{url}: {left} of {checked} blocks are damaged{advice}");
            }
        }
        Task::Prune { url, gb } => {
            let report = prune(&parse(&url)?, gb).await?;
            line(&format!(
                "deleted {} blocks with {} bytes, {} blocks with {} bytes are left",
                report.deleted_blocks, report.deleted_bytes, report.blocks_left, report.bytes_left
            ))?;
            skipped("skipped", report.skipped)?;
        }
    }
    Ok(())
}

/// Not as a value parser: clap's error would repeat the URL, with its password.
fn parse(url: &str) -> Result<StoreUrl> {
    Ok(url.parse()?)
}

/// A line for what was left out, if anything was.
fn skipped(what: &str, count: u64) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    line(&format!("{what}: {count}"))
}

fn seconds_since(time: SystemTime) -> u64 {
    SystemTime::now().duration_since(time).map_or(0, |age| age.as_secs())
}

fn line(text: &str) -> Result<()> {
    Ok(writeln!(Stdout, "{text}")?)
}
