//! The choices of a stream beside the first. They are shown to nobody else's clients, but the stream is at its end only
//! when each of them is, and who ends it must end each.

/// More than any provider gives. Memory is not the provider's to fill.
const MOST: usize = 128;

/// The choices seen so far, and whether each has its finish reason.
#[derive(Debug, Default)]
pub struct Choices(Vec<(u64, bool)>);

impl Choices {
    pub fn note(&mut self, index: u64, finished: bool) {
        let room = self.0.len() < MOST;
        match self.0.iter_mut().find(|(known, _)| *known == index) {
            Some((_, done)) => *done |= finished,
            None if room => self.0.push((index, finished)),
            None => {}
        }
    }
    /// How many have begun.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }
    pub fn all_finished(&self) -> bool {
        self.0.iter().all(|(_, finished)| *finished)
    }
    pub fn unfinished(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|(_, finished)| !finished).map(|(index, _)| *index)
    }
}
