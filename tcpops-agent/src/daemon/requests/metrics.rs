//! The counters in the text format of Prometheus (OpenMetrics). No label holds an address, a cookie or a conid.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter as PrometheusCounter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use strum::VariantArray as _;
use tcpops_common::counters::Counter;

use crate::api::problem::{Code, Problem};
use crate::daemon::counters::AgentCounter;
use crate::daemon::requests::handle::{Command, Handle, Numbers};
use crate::logging;
use crate::model::history::cause::CauseKind;
use crate::model::history::record::Kind;

/// The content type of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is told at one moment.
struct Metrics(Registry);

impl Metrics {
    fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        // The encoder ends the sentence.
        self.0.register(name, help.trim().trim_end_matches('.'), metric);
    }

    fn count(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, ConstCounter::new(value));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    /// One counter for each value of a label.
    fn counts(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let family = Family::<Vec<(&'static str, &'static str)>, PrometheusCounter>::default();
        for (value, count) in values {
            family.get_or_create(&vec![(label, value)]).inc_by(count);
        }
        self.add(name, help, family);
    }
}

impl Handle {
    /// Everything that is counted, as text.
    pub(crate) async fn metrics(&self) -> Result<String, Problem> {
        let Numbers { tracked, watched, waiting } = self.ask(|answer| Command::Numbers { answer }).await?;
        let (document, generation) = self.rules().await?;
        let (facts, event_log, counters) = (&self.shared.facts, &self.shared.event_log, &self.shared.counters);
        let mut metrics = Metrics(Registry::with_prefix("tcpops"));
        metrics.add("build", "The version of the agent.", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        let started_s = u64::try_from(facts.started.as_second()).unwrap_or(0);
        metrics.gauge("start_time_seconds", "When the agent started, seconds since 1970.", started_s);
        metrics.gauge("tracked_connections", "Live connections and listeners with an entry.", tracked);
        metrics.gauge("max_connections", "How many of them there can be.", facts.max_connections.into());
        metrics.gauge("watched_connections", "Connections with a limit that is being watched.", watched as u64);
        let help = "Connections that wait for the guard to let them be closed.";
        metrics.gauge("held_back_connections", help, waiting as u64);
        metrics.gauge("rules", "Rules in force.", document.rules.len() as u64);
        metrics.gauge("rules_generation", "Raised by one with each change of the rules.", generation);
        for &counter in Counter::ALL {
            let value = self.shared.settings.counter(counter)?;
            metrics.count(counter.name(), counter.help(), value);
        }
        let causes = CauseKind::VARIANTS.iter().map(|kind| (kind.into(), event_log.closes(*kind)));
        metrics.counts("closes", "Connections that ended, by why they did.", "cause", causes);
        let kinds = Kind::VARIANTS.iter().map(|kind| (kind.name(), event_log.published(*kind)));
        metrics.counts("events_published", "Events published, by type.", "type", kinds);
        metrics.count("events_missed", "Events that readers missed since they were too slow.", event_log.missed());
        metrics.gauge("event_readers", "Readers of events, the hook included.", event_log.readers() as u64);
        for &count in AgentCounter::VARIANTS {
            metrics.count(count.name(), count.help(), counters.get(count));
        }
        metrics.count("log_lines_dropped", "Lines of the log that could not be written.", logging::dropped());
        let help = "The longest time between the last look whether it is the right connection and its reset.";
        let longest_us = u64::try_from(counters.longest_window().as_micros()).unwrap_or(u64::MAX);
        metrics.gauge("close_window_longest_microseconds", help, longest_us);
        let mut text = String::new();
        encode(&mut text, &metrics.0).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        Ok(text)
    }
}
