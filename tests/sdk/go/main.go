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
}

type said struct {
	Text   string   `json:"text"`
	Finish string   `json:"finish"`
	Output int64    `json:"output"`
	Pieces int      `json:"pieces"`
	Error  *failure `json:"error,omitempty"`
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
	if !asked.Stream {
		answer, err := client.Chat.Completions.New(context.Background(), body)
		if err != nil {
			return said{}, err
		}
		return ofOpenAI(answer, 0), nil
	}
	body.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	stream := client.Chat.Completions.NewStreaming(context.Background(), body)
	whole, pieces := openai.ChatCompletionAccumulator{}, 0
	for ; stream.Next(); pieces++ {
		if !whole.AddChunk(stream.Current()) {
			return said{}, errors.New("a chunk that does not belong here")
		}
	}
	if err := stream.Err(); err != nil {
		return said{}, err
	}
	return ofOpenAI(&whole.ChatCompletion, pieces), nil
}

func ofOpenAI(answer *openai.ChatCompletion, pieces int) said {
	choice := answer.Choices[0]
	return said{Text: choice.Message.Content, Finish: choice.FinishReason, Output: answer.Usage.CompletionTokens, Pieces: pieces}
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
	if !asked.Stream {
		answer, err := client.Messages.New(context.Background(), body)
		if err != nil {
			return said{}, err
		}
		return ofAnthropic(answer, 0), nil
	}
	stream := client.Messages.NewStreaming(context.Background(), body)
	whole, pieces := anthropic.Message{}, 0
	for ; stream.Next(); pieces++ {
		if err := whole.Accumulate(stream.Current()); err != nil {
			return said{}, err
		}
	}
	if err := stream.Err(); err != nil {
		return said{}, err
	}
	return ofAnthropic(&whole, pieces), nil
}

func ofAnthropic(answer *anthropic.Message, pieces int) said {
	text := ""
	for _, block := range answer.Content {
		text += block.Text
	}
	return said{Text: text, Finish: string(answer.StopReason), Output: answer.Usage.OutputTokens, Pieces: pieces}
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
	if !asked.Stream {
		answer, err := client.Models.GenerateContent(context.Background(), asked.Model, genai.Text(hi), nil)
		if err != nil {
			return said{}, err
		}
		return ofGemini(said{}, answer), nil
	}
	whole := said{}
	for chunk, err := range client.Models.GenerateContentStream(context.Background(), asked.Model, genai.Text(hi), nil) {
		if err != nil {
			return said{}, err
		}
		whole = ofGemini(whole, chunk)
		whole.Pieces++
	}
	return whole, nil
}

func ofGemini(before said, answer *genai.GenerateContentResponse) said {
	before.Text += answer.Text()
	if len(answer.Candidates) > 0 {
		before.Finish = string(answer.Candidates[0].FinishReason)
	}
	if answer.UsageMetadata != nil {
		before.Output = int64(answer.UsageMetadata.CandidatesTokenCount)
	}
	return before
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
		return &failure{[]string{"genai.APIError"}, ofGemini.Code, ofGemini.Message, ""}
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
