//! What one delivery looks like in each form that is wanted.
//!
//! Promise: it is encoded once per form, when the first socket of that form takes it.

use super::Form;
use super::delivery::Message;

/// The frame of one delivery, by form: by face and encoding.
#[derive(Debug, Default)]
pub(in super::super) struct Messages(Vec<(Form, Message)>);

impl Messages {
    /// The frame in a form. A small one looks alike whether its client puts parts together or not.
    pub(in super::super) fn get(&mut self, form: Form, make: impl FnOnce() -> Message) -> &Message {
        let alike = |(known, message): &(Form, Message)| {
            let parts = if message.large { known.parts } else { form.parts };
            Form { parts, ..*known } == form
        };
        let at = self.0.iter().position(alike).unwrap_or_else(|| {
            self.0.push((form, make()));
            self.0.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "it was found there, or has come there")]
        &self.0[at].1
    }
}
