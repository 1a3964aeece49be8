//! How a failure ends the program and what it advises: the exit code and the hint beside the message.
//!
//! The message itself is the error's `Display`; nothing here prints.

/// The documented exit code a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitClass {
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: input data cannot be used.
    Data,
    /// 4: a checksum, a schema or a pair of files does not match.
    Integrity,
    /// 5: the operating system refused a read or a write.
    Io,
    /// 6: a safety policy refused.
    Policy,
    /// 7: another process holds the lock.
    Busy,
}

impl ExitClass {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Data => 3,
            Self::Integrity => 4,
            Self::Io => 5,
            Self::Policy => 6,
            Self::Busy => 7,
        }
    }
}

/// An error that knows its exit code and the next step for the person who reads it.
pub trait Failure: std::error::Error {
    /// Which documented exit code this failure leads to.
    fn exit_class(&self) -> ExitClass;

    /// The next step, as one sentence without a final period; `None` when the message says it all.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The message of an error followed by each of its causes, joined by `: `, without saying anything twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);
    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[test]
    fn codes_are_the_documented_ones() {
        let all = [ExitClass::Usage, ExitClass::Data, ExitClass::Integrity, ExitClass::Io, ExitClass::Policy, ExitClass::Busy];
        assert_eq!(all.map(ExitClass::code), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn chain_names_each_cause_once() {
        assert_eq!(chain(&Outer(Inner)), "outer: inner");
    }
}
