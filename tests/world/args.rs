//! What one may ask the world for.
//!
//! Promise: a word that is not known, or a number that is none, is told: who mistypes one would
//! take what ran in its place for what was meant. `cargo test` passes the world over, so the test
//! of this runs in `tests/house`.

/// What one asks the world for.
#[derive(Debug)]
pub struct Args {
    pub seeds: u64,
    pub from: u64,
    pub seed: Option<u64>,
    pub frames: bool,
    pub brief: bool,
}

impl Args {
    /// What is asked for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self { seeds: 5_000, from: 1, seed: None, frames: false, brief: false };
        while let Some(arg) = given.next() {
            let mut number = || {
                let text = given.next().ok_or_else(|| format!("{arg} needs a number"))?;
                text.parse::<u64>().map_err(|_| format!("{arg} needs a number, and {text} is none"))
            };
            match arg.as_str() {
                "--seeds" => args.seeds = number()?,
                "--from" => args.from = number()?,
                "--seed" => args.seed = Some(number()?),
                "--frames" => args.frames = true,
                "--brief" => args.brief = true,
                _ => return Err(format!("{arg} is not known")),
            }
        }
        if args.seed.is_none() && (args.seeds == 0 || args.from.checked_add(args.seeds).is_none()) {
            return Err("there are no such seeds".to_owned());
        }
        Ok(args)
    }
}

#[test]
fn what_is_mistyped_is_told() {
    let of = |text: &str| Args::of(text.split_whitespace().map(str::to_owned));
    let good = of("--from 7 --seeds 9 --brief").unwrap();
    assert_eq!((good.from, good.seeds, good.seed, good.brief), (7, 9, None, true));
    let one = of("--seed 3 --frames").unwrap();
    assert_eq!((one.seed, one.frames), (Some(3), true));
    for bad in ["--seedz 9", "9", "--seeds", "--seeds 5k", "--seed -1", "--from", "--seeds 0"] {
        assert!(of(bad).is_err(), "{bad}");
    }
}
