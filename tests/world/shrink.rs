//! Running a seed, and making the history of one that fails shorter.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::weights::Weights;
use crate::world::{Cut, Outcome, World};

/// Runs a history: what it came to, or what was broken.
pub fn run(seed: u64, cut: Cut) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| World::run(seed, cut))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// The first words of a failure: its promise or law.
fn law(why: &str) -> &str {
    why.split(':').next().unwrap_or_default()
}

/// Leaves out what makes no difference, as long as the same promise or law is broken.
fn shorten(seed: u64, why: &str) -> (Cut, String) {
    let (mut best, mut told) = (Cut::default(), why.to_owned());
    let mut attempt = |cut: Cut, best: &mut Cut| match run(seed, cut.clone()) {
        Err(now) if law(&now) == law(why) => {
            (*best, told) = (cut, now);
            true
        }
        _ => false,
    };
    let weights = Weights::draw(seed);
    let mut steps = weights.steps;
    while steps > 1 {
        let fewer = Cut { steps: Some(steps - steps.div_ceil(4)), ..best.clone() };
        if !attempt(fewer, &mut best) {
            break;
        }
        steps -= steps.div_ceil(4);
    }
    for act in weights.has().into_iter().filter(|act| act.optional()) {
        // Others take its turns: so it is tried before single acts are.
        let mut fewer = best.clone();
        fewer.without.push(act);
        attempt(fewer, &mut best);
    }
    let mut size = steps.div_ceil(2);
    while size > 0 {
        for from in (0..steps).step_by(size) {
            let mut fewer = best.clone();
            fewer.skip.extend(from..(from + size).min(steps));
            if fewer.skip != best.skip {
                attempt(fewer, &mut best);
            }
        }
        size /= 2;
    }
    (best, told)
}

/// Prints how to run it again, and the shortened history; `frames`: with all that is said in it.
pub fn report(seed: u64, why: &str, frames: bool) {
    println!("again: cargo world -- --seed {seed}");
    let (cut, why) = shorten(seed, why);
    println!("shortened (without {:?}):", cut.without);
    run(seed, Cut { tell: true, frames, ..cut }).err();
    println!("  {why}");
}
