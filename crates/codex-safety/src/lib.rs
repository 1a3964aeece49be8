//! Finds and redacts secrets and personal data in text, and flags jailbreak phrases, without ever storing a match.
