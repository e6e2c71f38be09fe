//! Looks at who has a record, for questions that wait.
//!
//! Promise: the pumps look, so that neither the writer nor a socket's task waits for a disk; a turn
//! takes a few subscribers in.

use std::sync::Arc;

use super::hub::Hub;
use super::socket::{Inner, Socket};
use crate::delivery::{Look, refused};
use crate::rows::RowsError;
use crate::wire::{DeliveredTo, ServerFrame};

/// Subscribers that a turn takes in.
const TURN: usize = 64;

/// One turn of a question: a few subscribers are taken in, and where that was all it is answered.
/// Nobody else takes a turn of this socket meanwhile.
pub(super) fn serve(
    hub: &Hub,
    socket: &Arc<Socket>,
    Look { who, mut having }: Look,
    now: u64,
) -> Result<(), RowsError> {
    // Nobody is looked at for one who may not ask.
    let row = hub.store.log_row(who.log)?;
    let mut inner = socket.lock();
    if let Err(refusal) = inner.at.may_know(who, row.as_ref(), now) {
        answer(socket, &mut inner, refused(who, refusal));
        return Ok(());
    }
    drop(inner);
    if !hub.store.having(&mut having, TURN)? {
        socket.lock().at.looked(having);
        return Ok(());
    }
    hub.store.settled();
    let row = hub.store.log_row(who.log)?;
    let (users, more) = having.named();
    let told = ServerFrame::DeliveredTo(DeliveredTo { request: who.request, users, more });
    let mut inner = socket.lock();
    let told = match inner.at.may_know(who, row.as_ref(), now) {
        Ok(()) => told,
        Err(refusal) => refused(who, refusal),
    };
    answer(socket, &mut inner, told);
    Ok(())
}

/// Answers the first question, unless all were answered meanwhile.
fn answer(socket: &Socket, inner: &mut Inner, frame: ServerFrame) {
    if inner.at.answered() {
        socket.send_now(inner, &[frame]);
    }
}
