//! Validates a request of the responses endpoint.

use colm_prompt::Conversation;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::body::{
    EchoedFields, NamedSchema, NamedTool, ResponseFields, ResponseTool, ResponseToolChoice,
    StateFields, TextField, TextFormat,
};
use super::input::messages;
use super::nested::{object, Kind};
use crate::serve::answers::SourceFields;
use crate::serve::error::ApiError;
use crate::serve::fields::Fields;
use crate::serve::format::{grammar, GrammarField, GrammarOfField};
use crate::serve::labels::Labels;
use crate::serve::limits::MAX_TOP_LOGPROBS;
use crate::serve::sampling::{in_range, SamplingFields, Stop};
use crate::serve::tools::{FunctionTool, ToolChoice, Tools};
use crate::{ChainCount, Grammar, Prompt, Request, SamplingDefaults};

/// The only supported value of `include`.
const LOGPROBS: &str = "message.output_text.logprobs";

/// A validated request of the responses endpoint.
pub struct ResponsesRequest {
    pub request: Request,
    pub source_fields: SourceFields,
    pub tools: Tools,
    pub stream: bool,
    /// The fields that the answer repeats.
    pub echoed: EchoedFields,
    /// The tools that the answer repeats.
    pub echoed_tools: Vec<ResponseTool>,
}

impl ResponsesRequest {
    /// Validates `fields` for an answer at `k` chains. `defaults` are the model's sampling defaults.
    pub fn from_fields(
        fields: &mut Fields,
        k: ChainCount,
        defaults: &SamplingDefaults,
    ) -> Result<Self, ApiError> {
        fields.take::<StateFields>()?.check()?;
        let body: ResponseFields = fields.take()?;
        let mut echoed: EchoedFields = fields.take()?;
        let sampling: SamplingFields = fields.take()?;
        fields.take::<Labels>()?.check()?;
        echoed.temperature.get_or_insert(defaults.temperature.unwrap_or(1.));
        echoed.top_p.get_or_insert(defaults.top_p.unwrap_or(1.));
        body.check()?;
        echoed.text.check()?;
        echoed.text.format.get_or_insert_default();
        let echoed_tools = parse_tools(&body.tools.unwrap_or_default())?;
        let tools = tools(&echoed_tools, &echoed)?;
        let effort = echoed.reasoning.effort()?;
        let effort = effort.map(|effort| ("reasoning_effort".to_string(), effort.into()));
        let conversation = Conversation {
            messages: messages(echoed.instructions.as_deref(), &body.input)?,
            tools: tools.for_template(),
            variables: Map::from_iter(effort),
            add_generation_prompt: true,
        };
        let mut request = Request::new(Prompt::Conversation(Box::new(conversation))).chains(k);
        sampling.apply(&mut request, defaults)?;
        request.max_tokens = echoed.max_output_tokens.map(|tokens| tokens as usize);
        request.stop = Stop::strings(body.stop)?;
        tools.check_stop(&request.stop)?;
        let (field, grammar) = answer_grammar(&echoed.text, body.grammar, &tools)?.unzip();
        request.grammar = grammar;
        let source_fields = SourceFields {
            prompt: "input",
            grammar: field,
            max_tokens: "max_output_tokens",
            choices: "n",
        };
        request.logprobs = logprobs(&body.include.unwrap_or_default(), echoed.top_logprobs)?;
        request.shown_tokens = tools.shown_tokens();
        Ok(Self {
            request,
            source_fields,
            tools,
            stream: body.stream.unwrap_or(false),
            echoed,
            echoed_tools,
        })
    }
}

/// For how many most likely tokens log-probabilities are returned. None: no log-probabilities.
fn logprobs(include: &[String], top: u32) -> Result<Option<usize>, ApiError> {
    in_range("top_logprobs", Some(top), 0..=MAX_TOP_LOGPROBS)?;
    if let Some(index) = include.iter().position(|included| included != LOGPROBS) {
        let message = format!("include: expected only {LOGPROBS}");
        return Err(ApiError::unsupported(format!("include[{index}]"), message));
    }
    if top > 0 && include.is_empty() {
        let message = format!("top_logprobs requires \"include\": [\"{LOGPROBS}\"]");
        return Err(ApiError::invalid_value("top_logprobs", message));
    }
    Ok((!include.is_empty()).then_some(top as usize))
}

fn parse_tools(tools: &[Box<RawValue>]) -> Result<Vec<ResponseTool>, ApiError> {
    let function = |kind: Kind, fields: &mut Fields| {
        if kind.kind.as_deref() == Some("function") {
            return fields.take();
        }
        let kind = kind.type_name();
        let message =
            format!("a tool of type {kind}: expected function, there are no built-in tools");
        Err(ApiError::unsupported("type", message))
    };
    let tools = tools.iter().enumerate();
    tools.map(|(index, tool)| object(tool, &format!("tools[{index}]"), function)).collect()
}

fn tools(tools: &[ResponseTool], echoed: &EchoedFields) -> Result<Tools, ApiError> {
    let choice = match &echoed.tool_choice {
        ResponseToolChoice::Named(NamedTool { kind, name }) if kind == "function" => {
            ToolChoice::Named(name.clone())
        }
        ResponseToolChoice::Named(_) => {
            let message = "tool_choice: expected type function";
            return Err(ApiError::unsupported("tool_choice.type", message));
        }
        ResponseToolChoice::Mode(mode) => ToolChoice::from_mode(mode)?,
    };
    let functions = tools.iter().cloned().map(|tool| {
        let ResponseTool { name, description, parameters, strict, .. } = tool;
        FunctionTool { name, description, parameters, strict }
    });
    let functions: Vec<FunctionTool> = functions.collect();
    let template_tools = functions.iter().map(FunctionTool::as_json).collect();
    Tools::new(functions, template_tools, Some(choice), Some(echoed.parallel_tool_calls))
}

/// The grammar that the answer must match. Fails if more than one field gives one.
fn answer_grammar(
    text: &TextField,
    field: Option<GrammarField>,
    tools: &Tools,
) -> Result<Option<GrammarOfField>, ApiError> {
    let from_text = match &text.format {
        None | Some(TextFormat::Text {}) => None,
        Some(TextFormat::JsonObject {}) => Some(Grammar::JsonObject),
        Some(TextFormat::JsonSchema(NamedSchema { schema, .. })) => {
            Some(Grammar::JsonSchema(Value::Object(schema.clone())))
        }
    };
    let forms = [
        from_text.map(|grammar| ("text.format", grammar)),
        grammar(None, field)?,
        tools.grammar().map(|grammar| ("tool_choice", grammar)),
    ];
    let mut given = forms.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some((one, _)), Some((other, _))) => {
            let message = format!("{one} and {other} are mutually exclusive: expected one of them");
            Err(ApiError::invalid_value(other, message))
        }
        (form, _) => Ok(form),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Parses a body with these fields.
    fn read(body: &Value) -> Result<ResponsesRequest, ApiError> {
        let mut fields = Fields::parse(body.to_string().as_bytes())?;
        let parsed = ResponsesRequest::from_fields(
            &mut fields,
            ChainCount::ONE,
            &SamplingDefaults::default(),
        )?;
        fields.finish()?;
        Ok(parsed)
    }

    fn with(mut body: Value) -> Value {
        body["input"] = json!("hi");
        body
    }

    fn tool() -> Value {
        json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true})
    }

    #[test]
    fn unsupported_fields_are_refused_by_name() {
        for (body, param) in [
            (json!({"store": true}), "store"),
            (json!({"background": true}), "background"),
            (json!({"previous_response_id": "x"}), "previous_response_id"),
            (json!({"conversation": {"id": "x"}}), "conversation"),
            (json!({"prompt": {"id": "x"}}), "prompt"),
            (json!({"max_tool_calls": 3}), "max_tool_calls"),
            (json!({"truncation": "auto"}), "truncation"),
            (json!({"service_tier": "flex"}), "service_tier"),
            (json!({"include": ["reasoning.encrypted_content"]}), "include[0]"),
            (json!({"reasoning": {"effort": "minimal"}}), "reasoning.effort"),
            (json!({"reasoning": {"summary": "auto"}}), "reasoning.summary"),
            (json!({"text": {"verbosity": "low"}}), "text.verbosity"),
            (
                json!({"stream_options": {"include_obfuscation": true}}),
                "stream_options.include_obfuscation",
            ),
            (json!({"tools": [tool(), {"type": "web_search", "x": 1}]}), "tools[1].type"),
            (json!({"tools": [{"type": "function", "name": "f", "x": 1}]}), "tools[0].x"),
            (json!({"max_tokens": 5}), "max_tokens"),
        ] {
            let error = read(&with(body.clone())).err().unwrap();
            let found = (error.param.as_deref(), error.code);
            assert_eq!(found, (Some(param), Some("unsupported_parameter")), "{body}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (body, param) in [
            (json!({"top_logprobs": 2}), "top_logprobs"),
            (json!({"top_logprobs": 21, "include": [LOGPROBS]}), "top_logprobs"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"metadata": {"a": 1}}), "metadata.a"),
            (json!({"text": {"format": {"type": "text", "x": 1}}}), "text.format"),
            (
                json!({"text": {"format": {"type": "json_schema", "name": "x"}}}),
                "text.format.schema",
            ),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (
                json!({"tool_choice": {"type": "function", "name": "g"}, "tools": [tool()]}),
                "tool_choice",
            ),
            (json!({"tool_choice": {"type": "web_search"}}), "tool_choice"),
            (json!({"stream_options": {"include_usage": true}}), "stream_options.include_usage"),
            (
                json!({
                    "tool_choice": "required", "tools": [tool()],
                    "text": {"format": {"type": "json_object"}},
                }),
                "tool_choice",
            ),
        ] {
            let error = read(&with(body.clone())).err().unwrap();
            assert_eq!(error.param.as_deref(), Some(param), "{body}: {}", error.message);
        }
    }

    #[test]
    fn values_without_effect_are_accepted() {
        for body in [
            json!({"store": false, "background": false, "previous_response_id": null, "include": []}),
            json!({"truncation": "disabled", "text": {"format": null, "verbosity": null}}),
            json!({"reasoning": {"effort": null, "summary": null}, "tools": null, "tool_choice": null}),
            json!({"stream_options": {"include_obfuscation": false}, "service_tier": "auto"}),
        ] {
            let parsed = read(&with(body)).unwrap();
            assert!(parsed.request.grammar.is_none() && parsed.request.logprobs.is_none());
        }
    }

    #[test]
    fn the_answer_repeats_the_parameters() {
        let body = json!({
            "instructions": "be brief", "max_output_tokens": 5, "temperature": 0.5, "metadata": {"a": "b"},
            "include": [LOGPROBS], "top_logprobs": 2, "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        });
        let parsed = read(&with(body.clone())).unwrap();
        assert_eq!((parsed.request.logprobs, parsed.request.max_tokens), (Some(2), Some(5)));
        assert!(matches!(parsed.request.grammar, Some(Grammar::JsonSchema(_))));
        let echoed = json!(parsed.echoed);
        for field in
            ["instructions", "max_output_tokens", "temperature", "metadata", "top_logprobs"]
        {
            assert_eq!(echoed[field], body[field], "{field}");
        }
        assert_eq!(echoed["text"]["format"]["name"], "n");
        assert_eq!((&echoed["tool_choice"], &echoed["top_p"]), (&json!("auto"), &json!(1.0)));
        assert_eq!(echoed["reasoning"], json!({"effort": "low", "summary": null}));
    }
}
