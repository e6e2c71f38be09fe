//! Memory and CPU of the server for subscribed connections that do nothing.

use std::time::{Duration, Instant};

use crate::net::Net;
use crate::report::Report;
use crate::server::Machine;
use crate::talk::{frames, meet};
use crate::{Common, Outcome, net::Heard};

/// Resident memory before and after sockets subscribe to one log and go quiet, and what the
/// server's threads do then.
pub fn run(common: &Common, machine: &Machine, report: &mut Report) -> Outcome<()> {
    let most = if common.quick { 2_000 } else { 10_000 };
    let sockets = common.sockets.unwrap_or(most).clamp(1, 19_000);
    report.line(&format!("\nidle: {sockets} sockets subscribed to one log"));
    report.line("before MiB   after MiB   KB a connection");
    let server = machine.highwater()?;
    let mut net = Net::new()?;
    // What a first client costs once is not a connection's.
    meet(&mut net, &server, 1, Some("bench/idle"))?;
    let before = server.settled(|wait| quiet(&mut net, wait))?;
    meet(&mut net, &server, sockets, Some("bench/idle"))?;
    let after = server.settled(|wait| quiet(&mut net, wait))?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let each = after.saturating_sub(before) as f64 / sockets as f64 / 1_000.0;
    report.line(&format!("{:>10.1} {:>11.1} {each:>17.2}", mib(before), mib(after)));
    let long = Duration::from_secs(common.seconds.unwrap_or(if common.quick { 5 } else { 20 }));
    let (since, used) = (Instant::now(), server.threads()?);
    while since.elapsed() < long {
        quiet(&mut net, Duration::from_millis(50))?;
    }
    let (elapsed, now) = (since.elapsed().as_secs_f64(), server.threads()?);
    let spent: Vec<(String, f64)> = (now.into_iter())
        .map(|(name, spent)| {
            let before = used.get(&name).copied().unwrap_or_default();
            (name, (spent - before).max(0.0) / elapsed * 100.0)
        })
        .collect();
    let all: f64 = spent.iter().map(|(_, share)| share).sum();
    let each: Vec<String> = (spent.iter())
        .filter(|(_, share)| *share >= 0.01)
        .map(|(name, share)| format!("{name} {share:.2}"))
        .collect();
    report.line(&format!("{all:.2} % of a core over {elapsed:.0} s: {}", each.join(", ")));
    Ok(())
}

/// Lets time pass, while pings are answered.
fn quiet(net: &mut Net, wait: Duration) -> Outcome<()> {
    net.turn(wait, |_, conn, heard| {
        if let Heard::Message(message) = heard {
            frames(conn, message)?;
        }
        Ok(())
    })
}
