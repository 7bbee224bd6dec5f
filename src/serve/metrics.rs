//! Numbers for operators, in the text format of Prometheus. Names and meanings are those of vLLM with the prefix `colm`
//! where vLLM has the number, so that its dashboards fit.

mod answer;
mod kv_store;
mod names;

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics::{with_local_recorder, Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::admission::ActiveRequest;
use crate::host::answer_stream::AnswerObserver;
use crate::{ChainCount, Engine, Error, FinishReason, Result};
use answer::AnswerMetrics;
use kv_store::KvStoreNumbers;

/// The interval of upkeep. Histograms keep every value until then, even if nobody reads the metrics.
const UPKEEP: Duration = Duration::from_secs(5);

/// The numbers of a server.
#[derive(Clone)]
pub(super) struct Metrics(Arc<Inner>);

struct Inner {
    engine: Engine,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// The numbers of the answers at k chains, k - 1 being the index.
    by_k: Vec<Arc<ByK>>,
    engine_numbers: EngineNumbers,
}

/// The numbers of the answers at one chain count.
struct ByK {
    prompt_tokens: Counter,
    generation_tokens: Counter,
    time_to_first_token: Histogram,
    time_per_output_token: Histogram,
    end_to_end: Histogram,
    prefill: Histogram,
    decode: Histogram,
    request_prompt_tokens: Histogram,
    request_generation_tokens: Histogram,
    ended: [(&'static str, Counter); 4],
}

/// The numbers that are read from the engine when somebody asks.
struct EngineNumbers {
    running: Gauge,
    waiting: Gauge,
    kv_cache_usage: Gauge,
    preemptions: Counter,
    prefix_queries: Counter,
    prefix_hits: Counter,
    prefix_evictions: Counter,
    drafted: Counter,
    accepted: Counter,
    prompt_work: Counter,
    prompt_work_saved: Counter,
    steps: Counter,
    kv_store: Option<KvStoreNumbers>,
}

impl Metrics {
    /// The numbers of a server of `engine`, all 0.
    pub(super) fn new(engine: &Engine) -> Result<Self> {
        let recorder = recorder()?;
        let by_k = with_local_recorder(&recorder, || {
            names::describe();
            names::constants(engine);
            engine.chain_counts().map(|k| Arc::new(ByK::new(k))).collect()
        });
        let engine_numbers = with_local_recorder(&recorder, || EngineNumbers::new(engine));
        let handle = recorder.handle();
        let engine = engine.clone();
        let metrics = Self(Arc::new(Inner { engine, recorder, handle, by_k, engine_numbers }));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(keep_up(Arc::downgrade(&metrics.0)));
        }
        Ok(metrics)
    }

    /// Observes an answer at `k` chains to a request.
    pub(super) fn observer(
        &self,
        k: ChainCount,
        request: &ActiveRequest,
    ) -> Arc<dyn AnswerObserver> {
        Arc::new(AnswerMetrics::new(self.0.by_k[k.get() - 1].clone(), request))
    }

    /// Counts a response of `route` with `status`.
    pub(super) fn count_response(&self, route: &str, status: u16) {
        let labels = [("route", route.to_string()), ("status", status.to_string())];
        with_local_recorder(&self.0.recorder, || {
            metrics::counter!(names::HTTP_REQUESTS, &labels).increment(1);
        });
    }

    /// All numbers as text.
    pub(super) fn text(&self) -> Response {
        self.0.engine_numbers.read(&self.0.engine);
        let text = self.0.handle.render();
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
    }
}

/// A recorder that knows the buckets of the histograms.
fn recorder() -> Result<PrometheusRecorder> {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in names::BUCKETS {
        let set = builder.set_buckets_for_metric(Matcher::Full((*name).into()), buckets);
        builder = set.map_err(Error::failed)?;
    }
    Ok(builder.build_recorder())
}

async fn keep_up(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.handle.run_upkeep();
    }
}

impl ByK {
    fn new(k: ChainCount) -> Self {
        let chains = || ("chains", k.to_string());
        let counter = |name: &'static str| metrics::counter!(name, &[chains()]);
        let histogram = |name: &'static str| metrics::histogram!(name, &[chains()]);
        let ended = |reason: &'static str| {
            let labels = [chains(), ("finished_reason", reason.to_string())];
            (reason, metrics::counter!(names::REQUEST_SUCCESS, &labels))
        };
        let new = Self {
            prompt_tokens: counter(names::PROMPT_TOKENS),
            generation_tokens: counter(names::GENERATION_TOKENS),
            time_to_first_token: histogram(names::TIME_TO_FIRST_TOKEN),
            time_per_output_token: histogram(names::TIME_PER_OUTPUT_TOKEN),
            end_to_end: histogram(names::END_TO_END),
            prefill: histogram(names::PREFILL_TIME),
            decode: histogram(names::DECODE_TIME),
            request_prompt_tokens: histogram(names::REQUEST_PROMPT_TOKENS),
            request_generation_tokens: histogram(names::REQUEST_GENERATION_TOKENS),
            ended: [
                ended(FinishReason::Stop.as_str()),
                ended(FinishReason::Length.as_str()),
                ended("abort"),
                ended("error"),
            ],
        };
        // A counter is shown once it has a value.
        new.prompt_tokens.increment(0);
        new.generation_tokens.increment(0);
        new.ended.iter().for_each(|(_, counter)| counter.increment(0));
        new
    }
}

impl EngineNumbers {
    fn new(engine: &Engine) -> Self {
        let counter = |name: &'static str| metrics::counter!(name);
        Self {
            running: metrics::gauge!(names::RUNNING),
            waiting: metrics::gauge!(names::WAITING),
            kv_cache_usage: metrics::gauge!(names::KV_CACHE_USAGE),
            preemptions: counter(names::PREEMPTIONS),
            prefix_queries: counter(names::PREFIX_QUERIES),
            prefix_hits: counter(names::PREFIX_HITS),
            prefix_evictions: counter(names::PREFIX_EVICTIONS),
            drafted: counter(names::DRAFTED),
            accepted: counter(names::ACCEPTED),
            prompt_work: counter(names::PROMPT_WORK),
            prompt_work_saved: counter(names::PROMPT_WORK_SAVED),
            steps: counter(names::STEPS),
            kv_store: engine.kv_store_counts().map(|_| KvStoreNumbers::new()),
        }
    }

    fn read(&self, engine: &Engine) {
        let (counts, scheduler) = (engine.counts(), engine.scheduler());
        self.running.set(scheduler.running() as f64);
        self.waiting.set(scheduler.waiting() as f64);
        let blocks = scheduler.blocks().max(1);
        self.kv_cache_usage.set(scheduler.used_blocks() as f64 / blocks as f64);
        let numbers = [
            (&self.preemptions, scheduler.preemptions()),
            (&self.prefix_queries, counts.prompt + counts.reused),
            (&self.prefix_hits, counts.reused),
            (&self.prefix_evictions, scheduler.evicted_blocks()),
            (&self.drafted, counts.drafted),
            (&self.accepted, counts.accepted),
            (&self.prompt_work, counts.prompt_work),
            (&self.prompt_work_saved, counts.prompt_work_saved),
            (&self.steps, counts.steps),
        ];
        for (counter, value) in numbers {
            counter.absolute(value as u64);
        }
        if let (Some(numbers), Some(counts)) = (&self.kv_store, engine.kv_store_counts()) {
            numbers.read(&counts);
        }
    }
}
