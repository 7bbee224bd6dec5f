//! An answer in progress: the items so far, and the events that describe them.

use serde::de::IgnoredAny;

use super::answer::{
    IncompleteDetails, OutputCall, OutputItem, OutputMessage, OutputText, ResponseBody, Status,
};
use super::events::{EventData, PartPlace, ResponseEvent};
use crate::serve::logprobs::TokenLogprob;
use crate::text::{Part, ToolCall};
use crate::{FinishReason, Usage};

/// An answer in progress.
pub struct Progress {
    body: ResponseBody,
    /// The message that is being written, and its text so far.
    open: Option<(OutputMessage, OutputText)>,
    /// The log-probabilities of tokens whose text is not complete.
    logprobs: Vec<TokenLogprob>,
    /// The events since the last call of [`Self::events`].
    events: Vec<ResponseEvent>,
    /// The sequence number of the next event.
    sequence_number: usize,
}

impl Progress {
    /// Starts the answer `body`.
    pub fn begin(body: ResponseBody) -> Self {
        let mut progress =
            Self { body, open: None, logprobs: Vec::new(), events: Vec::new(), sequence_number: 0 };
        progress.emit_response("response.created");
        progress.emit_response("response.in_progress");
        progress
    }

    /// Adds parts, and the log-probabilities of their tokens.
    pub fn add(&mut self, parts: Vec<Part>, logprobs: Vec<TokenLogprob>) {
        self.logprobs.extend(logprobs);
        for part in parts {
            match part {
                Part::Text(text) if text.is_empty() => {}
                // A message of its own needs no space before it.
                Part::Text(text) if self.open.is_none() && !self.body.output.is_empty() => {
                    self.write(text.trim_start().into());
                }
                Part::Text(text) => self.write(text),
                Part::Call(call) => self.call(call),
            }
        }
    }

    /// Ends the answer.
    pub fn end(&mut self, reason: FinishReason, usage: Usage) {
        // An answer has at least one item, and its tokens have log-probabilities, even without text.
        if self.open.is_some() || self.body.output.is_empty() {
            self.write(String::new());
        }
        let (status, kind) = match reason {
            FinishReason::Stop => (Status::Completed, "response.completed"),
            FinishReason::Length => (Status::Incomplete, "response.incomplete"),
        };
        self.close(status);
        self.body.status = status;
        self.body.incomplete_details = (reason == FinishReason::Length)
            .then_some(IncompleteDetails { reason: "max_output_tokens" });
        self.body.usage = Some(usage.into());
        self.emit_response(kind);
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<ResponseEvent> {
        std::mem::take(&mut self.events)
    }

    /// The complete answer.
    pub fn into_body(self) -> ResponseBody {
        self.body
    }

    /// Continues the message, or starts one.
    fn write(&mut self, delta: String) {
        let (message, mut part) = match self.open.take() {
            Some(open) => open,
            None => self.open(),
        };
        let logprobs = std::mem::take(&mut self.logprobs);
        part.text += &delta;
        part.logprobs.extend_from_slice(&logprobs);
        if !delta.is_empty() || !logprobs.is_empty() {
            let at = self.place(&message);
            self.emit("response.output_text.delta", EventData::TextDelta { at, delta, logprobs });
        }
        self.open = Some((message, part));
    }

    /// Starts a message.
    fn open(&mut self) -> (OutputMessage, OutputText) {
        let (message, part) = (OutputMessage::begin(), OutputText::default());
        self.emit_item("response.output_item.added", OutputItem::Message(message.clone()));
        let added = EventData::Part { at: self.place(&message), part: part.clone() };
        self.emit("response.content_part.added", added);
        (message, part)
    }

    /// Ends the message, if there is one.
    fn close(&mut self, status: Status) {
        let Some((message, part)) = self.open.take() else { return };
        let at = self.place(&message);
        let (text, logprobs) = (part.text.clone(), part.logprobs.clone());
        let done = EventData::TextDone { at: at.clone(), text, logprobs };
        self.emit("response.output_text.done", done);
        self.emit("response.content_part.done", EventData::Part { at, part: part.clone() });
        self.add_item(OutputItem::Message(OutputMessage {
            status,
            content: vec![part],
            ..message
        }));
    }

    fn call(&mut self, ToolCall { name, arguments }: ToolCall) {
        self.close(Status::Completed);
        // Calls have no field for log-probabilities.
        self.logprobs.clear();
        let call = OutputCall::begin(name);
        self.emit_item("response.output_item.added", OutputItem::FunctionCall(call.clone()));
        let (item_id, output_index) = (call.id.clone(), self.body.output.len());
        let delta = arguments.clone();
        let delta = EventData::ArgumentsDelta { item_id: item_id.clone(), output_index, delta };
        self.emit("response.function_call_arguments.delta", delta);
        let (name, done) = (call.name.clone(), arguments.clone());
        let done = EventData::ArgumentsDone { item_id, output_index, name, arguments: done };
        self.emit("response.function_call_arguments.done", done);
        let status = match serde_json::from_str::<IgnoredAny>(&arguments) {
            Ok(_) => Status::Completed,
            Err(_) => Status::Incomplete,
        };
        self.add_item(OutputItem::FunctionCall(OutputCall { arguments, status, ..call }));
    }

    /// The position of the text of the last message.
    fn place(&self, message: &OutputMessage) -> PartPlace {
        let (item_id, output_index) = (message.id.clone(), self.body.output.len());
        PartPlace { item_id, output_index, content_index: 0 }
    }

    fn add_item(&mut self, item: OutputItem) {
        self.emit_item("response.output_item.done", item.clone());
        self.body.output.push(item);
    }

    fn emit_item(&mut self, kind: &'static str, item: OutputItem) {
        self.emit(kind, EventData::Item { output_index: self.body.output.len(), item });
    }

    fn emit_response(&mut self, kind: &'static str) {
        self.emit(kind, EventData::Response { response: Box::new(self.body.clone()) });
    }

    fn emit(&mut self, kind: &'static str, data: EventData) {
        self.events.push(ResponseEvent { kind, sequence_number: self.sequence_number, data });
        self.sequence_number += 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;
    use crate::serve::fields::Fields;

    fn begun() -> Progress {
        let echoed = Fields::parse(b"{}").unwrap().take().unwrap();
        Progress::begin(ResponseBody::begin("m@1".into(), echoed, Vec::new()))
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    fn call(arguments: &str) -> Part {
        Part::Call(ToolCall { name: "f".into(), arguments: arguments.into() })
    }

    /// All events, and the answer.
    fn run(parts: Vec<Vec<Part>>, reason: FinishReason) -> (Vec<Value>, Value) {
        let mut progress = begun();
        let mut events = progress.events();
        for parts in parts {
            progress.add(parts, Vec::new());
            events.extend(progress.events());
        }
        progress.end(reason, Usage { prompt_tokens: 5, completion_tokens: 2, ..Usage::default() });
        events.extend(progress.events());
        (events.iter().map(|event| json!(event)).collect(), json!(progress.into_body()))
    }

    /// The types of the events without those of the whole answer.
    fn kinds(events: &[Value]) -> Vec<&str> {
        let kinds = events.iter().map(|event| event["type"].as_str().unwrap());
        kinds
            .filter_map(|kind| kind.split_once('.')?.1.split_once('.'))
            .map(|kind| kind.1)
            .collect()
    }

    #[test]
    fn events_are_numbered_and_name_the_items_of_the_answer() {
        let parts = vec![vec![text("a"), call("{}")], vec![text("b")], vec![text("c")]];
        let (events, answer) = run(parts, FinishReason::Stop);
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], index);
            let item = &answer["output"][event["output_index"].as_u64().unwrap_or(9) as usize];
            assert_eq!(
                event["item_id"],
                if event["item_id"].is_null() { json!(null) } else { item["id"].clone() }
            );
            assert!(event["item"].is_null() || event["item"]["id"] == item["id"], "{event}");
        }
        let of_message = |deltas: usize| {
            let begin = ["added", "added"].into_iter().chain(vec!["delta"; deltas]);
            begin.chain(["done"; 3]).collect::<Vec<_>>()
        };
        let expected = [of_message(1), vec!["added", "delta", "done", "done"], of_message(2)];
        assert_eq!(kinds(&events), expected.concat());
        let ends = [&events[0], &events[1], &events[events.len() - 1]].map(|event| &event["type"]);
        assert_eq!(ends, ["response.created", "response.in_progress", "response.completed"]);
        assert_eq!(events[events.len() - 1]["response"], answer);
        let texts = [0, 2].map(|index| &answer["output"][index]["content"][0]["text"]);
        assert_eq!(texts, ["a", "bc"]);
        assert_eq!(answer["output"][1]["arguments"], "{}");
        assert_eq!(answer["usage"]["total_tokens"], 7);
    }

    #[test]
    fn an_empty_answer_is_an_empty_message() {
        let (events, answer) = run(vec![vec![text("")]], FinishReason::Stop);
        assert_eq!(kinds(&events), ["added", "added", "done", "done", "done"]);
        assert_eq!(answer["output"].as_array().unwrap().len(), 1);
        assert_eq!(answer["output"][0]["content"][0]["text"], "");
    }

    #[test]
    fn an_answer_that_was_cut_off_is_incomplete() {
        let (events, answer) = run(vec![vec![text("a")]], FinishReason::Length);
        assert_eq!(events[events.len() - 1]["type"], "response.incomplete");
        assert_eq!(answer["status"], "incomplete");
        assert_eq!(answer["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(answer["output"][0]["status"], "incomplete");
        let (_, answer) = run(vec![vec![call("{}"), call("{\"a")]], FinishReason::Length);
        let statuses = [0, 1].map(|index| &answer["output"][index]["status"]);
        assert_eq!(statuses, ["completed", "incomplete"]);
    }
}
