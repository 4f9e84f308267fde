// Go's official SDKs, unmodified. A JSON line in says what to ask of whom; a JSON line out says what the SDK made of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"google.golang.org/genai"
)

const (
	key = "secret-of-the-client"
	hi  = "Hi there"
)

type ask struct {
	SDK     string            `json:"sdk"`
	URL     string            `json:"url"`
	Model   string            `json:"model"`
	Headers map[string]string `json:"headers"`
	Stream  bool              `json:"stream"`
	Tool    *tool             `json:"tool"`
	Result  string            `json:"result"`
}

type tool struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Parameters  map[string]any `json:"parameters"`
}

type said struct {
	Text   string   `json:"text"`
	Finish string   `json:"finish"`
	Output int64    `json:"output"`
	Pieces int      `json:"pieces"`
	Call   *call    `json:"call,omitempty"`
	After  string   `json:"after,omitempty"`
	Error  *failure `json:"error,omitempty"`
}

type call struct {
	Name      string `json:"name"`
	Arguments any    `json:"arguments"`
}

type failure struct {
	Kinds      []string `json:"kinds"`
	Status     int      `json:"status"`
	Message    string   `json:"message"`
	RetryAfter string   `json:"retryAfter"`
}

func main() {
	lines, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked ask
		if lines.Decode(&asked) != nil {
			return
		}
		sdk := map[string]func(ask) (said, error){"openai": askOpenAI, "anthropic": askAnthropic, "gemini": askGemini}[asked.SDK]
		answer, err := sdk(asked)
		if err != nil {
			answer = said{Error: told(err)}
		}
		if err := answers.Encode(answer); err != nil {
			panic(err)
		}
	}
}

func askOpenAI(asked ask) (said, error) {
	options := []openaioption.RequestOption{
		openaioption.WithBaseURL(asked.URL + "/v1"), openaioption.WithAPIKey(key), openaioption.WithMaxRetries(0),
	}
	for name, value := range asked.Headers {
		options = append(options, openaioption.WithHeader(name, value))
	}
	client := openai.NewClient(options...)
	body := openai.ChatCompletionNewParams{
		Model: asked.Model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(hi)},
	}
	if tool := asked.Tool; tool != nil {
		function := openai.FunctionDefinitionParam{
			Name: tool.Name, Description: openai.String(tool.Description), Parameters: tool.Parameters,
		}
		body.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(function)}
	}
	answer, pieces, err := sayOpenAI(client, body, asked.Stream)
	if err != nil {
		return said{}, err
	}
	choice := answer.Choices[0]
	first := said{Text: choice.Message.Content, Finish: choice.FinishReason, Output: answer.Usage.CompletionTokens, Pieces: pieces}
	if len(choice.Message.ToolCalls) == 0 {
		return first, nil
	}
	called := choice.Message.ToolCalls[0]
	first.Call = &call{called.Function.Name, json.RawMessage(called.Function.Arguments)}
	body.Messages = append(body.Messages, choice.Message.ToParam(), openai.ToolMessage(asked.Result, called.ID))
	answer, _, err = sayOpenAI(client, body, asked.Stream)
	if err != nil {
		return said{}, err
	}
	first.After = answer.Choices[0].Message.Content
	return first, nil
}

// The answer, and in how many pieces it came: none for one that came whole.
func sayOpenAI(client openai.Client, body openai.ChatCompletionNewParams, stream bool) (*openai.ChatCompletion, int, error) {
	if !stream {
		answer, err := client.Chat.Completions.New(context.Background(), body)
		return answer, 0, err
	}
	body.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	chunks := client.Chat.Completions.NewStreaming(context.Background(), body)
	whole, pieces := openai.ChatCompletionAccumulator{}, 0
	for ; chunks.Next(); pieces++ {
		if !whole.AddChunk(chunks.Current()) {
			return nil, 0, errors.New("a chunk that does not belong here")
		}
	}
	return &whole.ChatCompletion, pieces, chunks.Err()
}

func askAnthropic(asked ask) (said, error) {
	options := []anthropicoption.RequestOption{
		anthropicoption.WithBaseURL(asked.URL), anthropicoption.WithAPIKey(key), anthropicoption.WithMaxRetries(0),
	}
	for name, value := range asked.Headers {
		options = append(options, anthropicoption.WithHeader(name, value))
	}
	client := anthropic.NewClient(options...)
	body := anthropic.MessageNewParams{
		Model: anthropic.Model(asked.Model), MaxTokens: 1000,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(hi))},
	}
	if tool := asked.Tool; tool != nil {
		declared := anthropic.ToolParam{Name: tool.Name, Description: anthropic.String(tool.Description)}
		declared.InputSchema = anthropic.ToolInputSchemaParam{ExtraFields: tool.Parameters}
		body.Tools = []anthropic.ToolUnionParam{{OfTool: &declared}}
	}
	answer, pieces, err := sayAnthropic(client, body, asked.Stream)
	if err != nil {
		return said{}, err
	}
	first := said{Text: textOf(answer), Finish: string(answer.StopReason), Output: answer.Usage.OutputTokens, Pieces: pieces}
	for _, block := range answer.Content {
		if block.Type == "tool_use" {
			first.Call = &call{block.Name, block.Input}
			result := anthropic.NewToolResultBlock(block.ID, asked.Result, false)
			body.Messages = append(body.Messages, answer.ToParam(), anthropic.NewUserMessage(result))
		}
	}
	if first.Call == nil {
		return first, nil
	}
	answer, _, err = sayAnthropic(client, body, asked.Stream)
	if err != nil {
		return said{}, err
	}
	first.After = textOf(answer)
	return first, nil
}

func sayAnthropic(client anthropic.Client, body anthropic.MessageNewParams, stream bool) (*anthropic.Message, int, error) {
	if !stream {
		answer, err := client.Messages.New(context.Background(), body)
		return answer, 0, err
	}
	events := client.Messages.NewStreaming(context.Background(), body)
	whole, pieces := anthropic.Message{}, 0
	for ; events.Next(); pieces++ {
		if err := whole.Accumulate(events.Current()); err != nil {
			return nil, 0, err
		}
	}
	return &whole, pieces, events.Err()
}

func textOf(answer *anthropic.Message) string {
	text := ""
	for _, block := range answer.Content {
		text += block.Text
	}
	return text
}

func askGemini(asked ask) (said, error) {
	headers := http.Header{}
	for name, value := range asked.Headers {
		headers.Set(name, value)
	}
	options := genai.HTTPOptions{BaseURL: asked.URL, Headers: headers}
	config := genai.ClientConfig{APIKey: key, Backend: genai.BackendGeminiAPI, HTTPOptions: options}
	client, err := genai.NewClient(context.Background(), &config)
	if err != nil {
		return said{}, err
	}
	with := genai.GenerateContentConfig{}
	if tool := asked.Tool; tool != nil {
		function := genai.FunctionDeclaration{Name: tool.Name, Description: tool.Description, ParametersJsonSchema: tool.Parameters}
		with.Tools = []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{&function}}}
	}
	// A chat keeps what was said as the API takes it back: without the empty parts that end streams.
	chat, err := client.Chats.Create(context.Background(), asked.Model, &with, nil)
	if err != nil {
		return said{}, err
	}
	first, called, err := sayGemini(chat, asked.Stream, genai.Part{Text: hi})
	if err != nil || called == nil {
		return first, err
	}
	result := genai.FunctionResponse{ID: called.ID, Name: called.Name, Response: map[string]any{"result": asked.Result}}
	after, _, err := sayGemini(chat, asked.Stream, genai.Part{FunctionResponse: &result})
	first.Call, first.After = &call{called.Name, called.Args}, after.Text
	return first, err
}

// The SDK has no accumulator: what its chunks say together, and what they call.
func sayGemini(chat *genai.Chat, stream bool, part genai.Part) (said, *genai.FunctionCall, error) {
	var whole said
	var called *genai.FunctionCall
	add := func(answer *genai.GenerateContentResponse) {
		whole.Text += answer.Text()
		for _, call := range answer.FunctionCalls() {
			called = call
		}
		if len(answer.Candidates) > 0 {
			whole.Finish = string(answer.Candidates[0].FinishReason)
		}
		if answer.UsageMetadata != nil {
			whole.Output = int64(answer.UsageMetadata.CandidatesTokenCount)
		}
	}
	if !stream {
		answer, err := chat.SendMessage(context.Background(), part)
		if err == nil {
			add(answer)
		}
		return whole, called, err
	}
	for chunk, err := range chat.SendMessageStream(context.Background(), part) {
		if err != nil {
			return said{}, nil, err
		}
		add(chunk)
		whole.Pieces++
	}
	return whole, called, nil
}

// The SDK's own error, if it is one; else no kind.
func told(err error) *failure {
	var ofOpenAI *openai.Error
	var ofAnthropic *anthropic.Error
	var ofGemini genai.APIError
	switch {
	case errors.As(err, &ofOpenAI):
		return &failure{[]string{"openai.Error"}, ofOpenAI.StatusCode, ofOpenAI.RawJSON(), retryAfter(ofOpenAI.Response)}
	case errors.As(err, &ofAnthropic):
		return &failure{[]string{"anthropic.Error"}, ofAnthropic.StatusCode, ofAnthropic.RawJSON(), retryAfter(ofAnthropic.Response)}
	case errors.As(err, &ofGemini):
		return &failure{[]string{"genai.APIError"}, ofGemini.Code, ofGemini.Error(), ""}
	default:
		return &failure{[]string{}, 0, strings.TrimSpace(err.Error()), ""}
	}
}

func retryAfter(answer *http.Response) string {
	if answer == nil {
		return ""
	}
	return answer.Header.Get("retry-after")
}
