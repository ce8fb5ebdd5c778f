//! How far messages that are here may be decoded, so that an item always ends between transactions.

use crate::decoder::Decoder;

/// What the look-ahead needs to know of one message.
pub enum Peeked<'a> {
    /// A replication message.
    Message(&'a [u8]),
    Other,
}

/// Finds how far a pass may decode: to the last Commit that is all here, but not into a transaction that brings a new table shape
/// or a streamed transaction's commit when whole ones come before it. `None`: no transaction ends here, take everything.
pub struct LookAhead {
    whole: bool,
    in_transaction: bool,
    in_block: bool,
    news: bool,
    limit: Option<usize>,
}

impl LookAhead {
    pub fn new(decoder: &Decoder) -> Self {
        Self {
            whole: decoder.has_whole(),
            in_transaction: decoder.in_transaction(),
            in_block: decoder.in_block(),
            news: false,
            limit: decoder.has_whole().then_some(0),
        }
    }

    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Takes the message that ends at `end`; false when the pass must stop before looking further.
    pub fn see(&mut self, decoder: &Decoder, peeked: &Peeked<'_>, end: usize) -> bool {
        let Peeked::Message(bytes) = peeked else {
            if !self.in_transaction {
                self.limit = Some(end);
            }
            return true;
        };
        match bytes.first() {
            Some(b'B') => (self.in_transaction, self.news) = (true, false),
            Some(b'R') if !self.in_block && !self.news => self.news = decoder.is_news(bytes),
            Some(b'C') => {
                self.in_transaction = false;
                if self.news && self.whole {
                    return false;
                }
                (self.whole, self.limit) = (true, Some(end));
                return !self.news;
            }
            Some(b'c') => {
                if !self.whole {
                    self.limit = Some(end);
                }
                return false;
            }
            Some(b'S') => self.in_block = true,
            Some(b'E') => self.in_block = false,
            _ => {}
        }
        if !self.in_transaction {
            self.limit = Some(end);
        }
        true
    }
}
