//! Figures out of samples.

use std::time::Duration;

/// Samples kept of one measurement; those beyond are left out of percentiles.
const MOST: usize = 8 << 20;

/// Durations of one measurement.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// One more, to the microsecond.
    pub fn add(&mut self, took: Duration) {
        if self.0.len() < MOST {
            self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// The value that a share of the samples does not exceed, in milliseconds.
    pub fn at(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = ((self.0.len() as f64) * share) as usize;
        let at = at.min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
    }
}

/// The middle value; of two, the lower.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
