//! Measures the wall-clock time and the processor time of each step, for `--timings`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

/// A step of the work and the time it took.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The name of the step.
    pub name: &'static str,
    /// Elapsed (wall-clock) time.
    pub wall: Duration,
    /// Processor time of all threads.
    pub cpu: Duration,
}

/// The steps completed so far.
pub struct Timings(Mutex<StepTimes>);

struct StepTimes {
    steps: Vec<Step>,
    wall: Instant,
    /// Processor time of the process at the end of the last step.
    cpu: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        // Processor time used before this point belongs to the first step.
        Self(Mutex::new(StepTimes { steps: Vec::new(), wall: Instant::now(), cpu: Duration::ZERO }))
    }
}

impl Timings {
    /// Ends a step and begins the next one. The times of steps with the same name are added up.
    pub fn done(&self, name: &'static str) {
        let wall = Instant::now();
        let cpu = ProcessTime::now().as_duration();
        let mut times = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let step = Step { name, wall: wall - times.wall, cpu: cpu.saturating_sub(times.cpu) };
        (times.wall, times.cpu) = (wall, cpu);
        match times.steps.iter_mut().find(|earlier| earlier.name == name) {
            Some(earlier) => {
                earlier.wall += step.wall;
                earlier.cpu += step.cpu;
            }
            None => times.steps.push(step),
        }
    }

    /// Returns the completed steps, in order.
    pub fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).steps.clone()
    }
}
