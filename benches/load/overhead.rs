//! What a key, metrics that are read, and a log of all requests cost.

use std::time::Duration;

use anyhow::{Context, Result};
use colm_testing::server_process::ServerProcess;
use colm_testing::statistics::percentile;
use colm_testing::table::Table;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::client::{Client, Target};
use super::contender::{serve, Contender, Models};
use super::load::{Load, Seen};

const KEY: &str = "a-key-for-the-benchmark";

/// Compares two servers of the same model, one with everything on, in turns. The model is the fastest one, a CoLM-Air at
/// one chain, because there a request takes the least time. Prints the median over `rounds`.
pub async fn measure(
    models: &Models,
    load: Load,
    tokens: usize,
    rounds: usize,
    random: &mut StdRng,
) -> Result<Table> {
    let plain = serve(&models.air(), &[])?;
    let watched = ["--api-key", KEY, "--log-requests", "--log-format", "json"];
    let watched = serve(&models.air(), &watched)?;
    let target = |server: &ServerProcess, api_key: Option<&str>| Target {
        address: server.address().into(),
        model_id: Contender::Air(1).model_id(),
        api_key: api_key.map(String::from),
        tokens,
    };
    let (plain, watched) = (target(&plain, None), target(&watched, Some(KEY)));
    for target in [&plain, &watched] {
        load.run(target, random).await?;
    }
    let header = ["round", "plain requests/s", "watched requests/s", "overhead %"];
    let (mut table, mut overheads) = (Table::new(header), Vec::new());
    for round in 1..=rounds {
        // Each is the first of every second round.
        let (without, with) = if round % 2 == 0 {
            let without = load.run(&plain, random).await?;
            (without, under_watch(&watched, load, random).await?)
        } else {
            let with = under_watch(&watched, load, random).await?;
            (load.run(&plain, random).await?, with)
        };
        let overhead = 100. * (with.seconds / without.seconds - 1.);
        overheads.push(overhead);
        table.push([
            round.to_string(),
            format!("{:.2}", without.requests_per_second()),
            format!("{:.2}", with.requests_per_second()),
            format!("{overhead:.2}"),
        ]);
    }
    let at = |share| percentile(&overheads, share).context("no rounds");
    println!(
        "Key, metrics and log: {:.2} % longer (median of {rounds} rounds; quartiles {:.2} and {:.2})",
        at(0.5)?,
        at(0.25)?,
        at(0.75)?
    );
    Ok(table)
}

/// `load`, while `/metrics` is read every second.
async fn under_watch(target: &Target, load: Load, random: &mut StdRng) -> Result<Seen> {
    let mut reader = Client::connect(target.clone()).await?;
    let scrape = async {
        loop {
            reader.scrape().await?;
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        seen = load.run(target, random) => seen,
        failed = scrape => failed,
    }
}
