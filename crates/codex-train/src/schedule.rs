//! The learning rate as a pure function of the step.

use crate::config::{Schedule, TrainConfig};

/// The learning rate of optimizer step `step`, the first being 1.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    if step <= config.warmup_steps && config.warmup_steps > 0 {
        return config.learning_rate * step as f64 / config.warmup_steps as f64;
    }
    let after = (step - config.warmup_steps) as f64;
    let whole = (config.steps - config.warmup_steps).max(1) as f64;
    let progress = (after / whole).min(1.0);
    let share = match config.schedule {
        Schedule::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress)),
        Schedule::Linear => 1.0 - progress,
        Schedule::Constant => return config.learning_rate,
        Schedule::Wsd => {
            let falling = (config.decay_share * config.steps as f64).round().min(whole);
            ((whole - after) / falling.max(1.0)).clamp(0.0, 1.0)
        }
    };
    let floor = config.final_learning_rate_ratio;
    config.learning_rate * (floor + (1.0 - floor) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(schedule: Schedule, step: u64) -> f64 {
        let config = TrainConfig {
            steps: 110,
            warmup_steps: 10,
            learning_rate: 1.0,
            final_learning_rate_ratio: 0.1,
            schedule,
            ..TrainConfig::default()
        };
        learning_rate(&config, step)
    }

    #[test]
    fn it_rises_then_falls_to_the_floor() {
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant, Schedule::Wsd] {
            assert!((at(schedule, 1) - 0.1).abs() < 1e-12);
            assert!((at(schedule, 10) - 1.0).abs() < 1e-12);
        }
        assert!((at(Schedule::Cosine, 60) - 0.55).abs() < 1e-12);
        assert!((at(Schedule::Linear, 35) - 0.775).abs() < 1e-12);
        assert!((at(Schedule::Cosine, 110) - 0.1).abs() < 1e-12);
        assert!((at(Schedule::Linear, 500) - 0.1).abs() < 1e-12);
        assert!((at(Schedule::Constant, 110) - 1.0).abs() < 1e-12);
        // The last fifth of 110 steps.
        assert!((at(Schedule::Wsd, 88) - 1.0).abs() < 1e-12 && at(Schedule::Wsd, 89) < 1.0);
        assert!((at(Schedule::Wsd, 99) - 0.55).abs() < 1e-12 && (at(Schedule::Wsd, 110) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn no_warmup_starts_below_the_top() {
        let config = TrainConfig { steps: 10, warmup_steps: 0, learning_rate: 1.0, schedule: Schedule::Linear, ..TrainConfig::default() };
        assert!((learning_rate(&config, 1) - 0.91).abs() < 1e-12);
    }
}
