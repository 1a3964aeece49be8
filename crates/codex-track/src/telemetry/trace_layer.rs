//! Feeds a [`Trace`] with the spans of the `tracing` crate: each time that one is entered is a span of its own.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::trace::Trace;

/// A layer of a `tracing_subscriber` registry. An `Option` of it is a layer too: `None` asks for no span, so that none is made for it.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    trace: Trace,
    target: &'static str,
}

impl TraceLayer {
    /// A layer that feeds this trace with the spans whose target begins with `target`, such as `codex`.
    pub fn new(trace: Trace, target: &'static str) -> Self {
        Self { trace, target }
    }

    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with(self.target)
    }
}

/// What a span carries.
struct Carried {
    args: Map<String, Value>,
    /// The entries that have not been left yet: thread and number.
    entered: Vec<(u64, u64)>,
}

struct Args<'a>(&'a mut Map<String, Value>);

impl Visit for Args<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for TraceLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id).filter(|span| self.takes(span.metadata())) {
            let mut args = Map::new();
            attributes.record(&mut Args(&mut args));
            span.extensions_mut().insert(Carried { args, entered: Vec::new() });
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(carried) = span.extensions_mut().get_mut::<Carried>()
        {
            values.record(&mut Args(&mut carried.args));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(carried) = span.extensions_mut().get_mut::<Carried>()
        {
            carried.entered.push(self.trace.begin(span.name()));
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let thread = super::trace::this_thread();
        if let Some(span) = context.span(id)
            && let Some(carried) = span.extensions_mut().get_mut::<Carried>()
            && let Some(at) = carried.entered.iter().rposition(|(entered, _)| *entered == thread)
        {
            let (thread, number) = carried.entered.remove(at);
            self.trace.end(thread, number, carried.args.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use codex_core::{FixedClock, files};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn entered_spans_are_in_the_trace_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let trace = Trace::start(&path, Arc::new(FixedClock::new(0, 1))).unwrap();
        let subscriber = tracing_subscriber::registry().with(Some(TraceLayer::new(trace.clone(), "codex")));
        tracing::subscriber::with_default(subscriber, || {
            let step = tracing::info_span!(target: "codex_train", "step", step = 7_u64, name = "a", loss = tracing::field::Empty);
            step.in_scope(|| {
                tracing::info_span!(target: "codex_train", "forward").in_scope(|| tracing::info!("an event is no span"));
                tracing::info_span!(target: "elsewhere", "hidden").in_scope(|| ());
                step.record("loss", 2.5);
            });
            let never = tracing::info_span!(target: "codex_train", "never entered");
            drop(never);
        });
        let table = trace.finish().table;
        let rows: Vec<(&str, u64)> = table.rows.iter().map(|row| (row.name.as_str(), row.count)).collect();
        assert_eq!(rows, [("step", 1), ("forward", 1)]);
        let events: Vec<Value> = serde_json::from_str(&files::read_to_string(&path).unwrap()).unwrap();
        let step = events.iter().find(|event| event["name"] == "step").unwrap();
        assert_eq!((&step["args"]["step"], &step["args"]["name"], &step["args"]["loss"]), (&7.into(), &"a".into(), &2.5.into()));
    }

    #[test]
    fn no_layer_asks_for_no_span() {
        let subscriber = tracing_subscriber::registry().with(None::<TraceLayer>);
        tracing::subscriber::with_default(subscriber, || assert!(tracing::info_span!(target: "codex_train", "step").is_disabled()));
    }
}
