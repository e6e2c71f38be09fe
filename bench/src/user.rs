//! A client that behaves: the client of the product on one of the load's sockets.
//!
//! Promise: what breaks a law of the protocol ends the run. A load that takes or sends hundreds of
//! thousands of records a second on one core cannot spend what that costs, so it speaks by hand
//! (`talk.rs`): its figures are then those of the server, and not of a client.

use std::time::Instant;

use highwater::client::{Client, Config, Event, Input, Output};
use highwater::wire::{Id, ServerFrame};

use crate::Outcome;
use crate::net::{Conn, Heard};
use crate::talk::say;

/// One client, and its clock.
#[derive(Debug)]
pub struct User {
    client: Client,
    began: Instant,
}

impl User {
    /// One that has not said anything yet.
    pub fn new(config: Config) -> Self {
        Self { client: Client::new(config), began: Instant::now() }
    }

    /// Where it stands.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The same, before its socket is open.
    pub const fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Hears what came on its socket: what its app is told of that.
    pub fn hear(&mut self, conn: &mut Conn, heard: &Heard<'_>) -> Outcome<Vec<Event>> {
        let input = match heard {
            Heard::Open => Input::Open { spare: Id([9; 16]) },
            Heard::Message(message) => Input::Message(message),
            Heard::Closed => Input::Closed,
            Heard::Raw(_) => return Err("no WebSocket".into()),
        };
        let now = self.now()?;
        self.act(conn, |client| client.handle(now, input))
    }

    /// Does what is due by now.
    pub fn tick(&mut self, conn: &mut Conn) -> Outcome<Vec<Event>> {
        let now = self.now()?;
        self.act(conn, |client| client.handle(now, Input::Time))
    }

    fn now(&self) -> Outcome<u64> {
        Ok(u64::try_from(self.began.elapsed().as_millis())?)
    }

    /// Has the client do something, and sends what comes of it.
    pub fn act(&mut self, conn: &mut Conn, act: impl FnOnce(&mut Client)) -> Outcome<Vec<Event>> {
        act(&mut self.client);
        let mut events = Vec::new();
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send(frame) => say(conn, &frame)?,
                // Whoever has nothing to say for long asks whether the server is there.
                Output::Tell(Event::Frame(ServerFrame::Pong(_))) => {}
                Output::Tell(event) if is_due(&event) => events.push(event),
                Output::Tell(event) => return Err(format!("unexpected: {event:?}").into()),
                Output::Close => return Err("the server is silent".into()),
                Output::Connect { .. } => {}
            }
        }
        Ok(events)
    }
}

/// Whether it is something that may happen in a load.
const fn is_due(event: &Event) -> bool {
    match event {
        Event::Frame(frame) => {
            !matches!(frame, ServerFrame::Bye(_) | ServerFrame::Refused(_) | ServerFrame::Gap(_))
        }
        Event::Settled { .. } | Event::PutOff { .. } => true,
        _ => false,
    }
}
