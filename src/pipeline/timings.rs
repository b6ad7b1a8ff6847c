//! Where the time goes: wall and processor time of each step, for `--timings`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

/// A step of the work and what it took.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// Time by the clock.
    pub wall: Duration,
    /// Processor time of all threads.
    pub cpu: Duration,
}

/// The steps done so far.
pub struct Timings(Mutex<StepTimes>);

struct StepTimes {
    steps: Vec<Step>,
    wall: Instant,
    /// Processor time of the process when the last step ended.
    cpu: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        // What the process used before belongs to its first step.
        Self(Mutex::new(StepTimes { steps: Vec::new(), wall: Instant::now(), cpu: Duration::ZERO }))
    }
}

impl Timings {
    /// A step has ended, and the next one begins. Steps of one name are one.
    pub fn done(&self, name: &'static str) {
        let (wall, cpu) = (Instant::now(), ProcessTime::now().as_duration());
        let mut laps = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let step = Step { name, wall: wall - laps.wall, cpu: cpu.saturating_sub(laps.cpu) };
        (laps.wall, laps.cpu) = (wall, cpu);
        match laps.steps.iter_mut().find(|earlier| earlier.name == name) {
            Some(earlier) => {
                earlier.wall += step.wall;
                earlier.cpu += step.cpu;
            }
            None => laps.steps.push(step),
        }
    }

    /// What was done, in order.
    pub fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).steps.clone()
    }
}
