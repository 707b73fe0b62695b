//! The process itself, as Prometheus' client libraries have it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Since when the process runs, and the memory that it has.
#[derive(Clone, Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    /// The process that starts now.
    pub(super) fn starting() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { started: since.unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let started = ConstGauge::new(self.started);
        let help = "When the process started, in Unix time";
        let metric = encoder.encode_descriptor(
            "process_start_time",
            help,
            Some(&Unit::Seconds),
            started.metric_type(),
        )?;
        started.encode(metric)?;
        let Some(memory) = resident_memory() else { return Ok(()) };
        let memory = ConstGauge::new(memory);
        let metric = encoder.encode_descriptor(
            "process_resident_memory",
            "The memory that the process has",
            Some(&Unit::Bytes),
            memory.metric_type(),
        )?;
        memory.encode(metric)
    }
}

/// Bytes of memory, where the system tells (Linux).
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
