import com.anthropic.client.AnthropicClient;
import com.anthropic.client.okhttp.AnthropicOkHttpClient;
import com.anthropic.errors.AnthropicServiceException;
import com.anthropic.helpers.MessageAccumulator;
import com.anthropic.models.messages.ContentBlock;
import com.anthropic.models.messages.ContentBlockParam;
import com.anthropic.models.messages.Message;
import com.anthropic.models.messages.MessageCreateParams;
import com.anthropic.models.messages.RawMessageStreamEvent;
import com.anthropic.models.messages.TextBlock;
import com.anthropic.models.messages.ToolResultBlockParam;
import com.anthropic.models.messages.ToolUseBlock;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.genai.Client;
import com.google.genai.errors.ApiException;
import com.google.genai.types.Content;
import com.google.genai.types.FunctionCall;
import com.google.genai.types.FunctionDeclaration;
import com.google.genai.types.FunctionResponse;
import com.google.genai.types.GenerateContentConfig;
import com.google.genai.types.GenerateContentResponse;
import com.google.genai.types.HttpOptions;
import com.google.genai.types.HttpRetryOptions;
import com.google.genai.types.Part;
import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.errors.OpenAIServiceException;
import com.openai.helpers.ChatCompletionAccumulator;
import com.openai.models.FunctionDefinition;
import com.openai.models.FunctionParameters;
import com.openai.models.chat.completions.ChatCompletion;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionFunctionTool;
import com.openai.models.chat.completions.ChatCompletionMessageFunctionToolCall;
import com.openai.models.chat.completions.ChatCompletionMessageToolCall;
import com.openai.models.chat.completions.ChatCompletionStreamOptions;
import com.openai.models.chat.completions.ChatCompletionToolMessageParam;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Java's official SDKs, unmodified. A JSON line in says what to ask of whom; a JSON line out says what the SDK made of it. */
public final class Sdks {
    private static final String KEY = "secret-of-the-client";
    private static final String HI = "Hi there";
    private static final ObjectMapper JSON = new ObjectMapper().setSerializationInclusion(JsonInclude.Include.NON_NULL);

    record Ask(String sdk, String url, String model, Map<String, String> headers, boolean stream, Tool tool, String result) {
        Ask {
            headers = headers == null ? Map.of() : headers;
        }
    }

    record Tool(String name, String description, Map<String, Object> parameters) {}

    record Said(String text, String finish, long output, int pieces, Call call, String after, Failure error) {
        static Said of(String text, String finish, long output, int pieces) {
            return new Said(text, finish, output, pieces, null, null, null);
        }

        Said called(String name, Map<?, ?> arguments, String after) {
            return new Said(text, finish, output, pieces, new Call(name, arguments), after, null);
        }

        static Said failed(Failure error) {
            return new Said(null, null, 0, 0, null, null, error);
        }
    }

    record Call(String name, Map<?, ?> arguments) {}

    record Failure(List<String> kinds, int status, String message, String retryAfter) {}

    /** An answer, and in how many pieces it came: none for one that came whole. */
    record Answer<T>(T whole, int pieces) {}

    public static void main(String[] arguments) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            answers.println(JSON.writeValueAsString(answer(JSON.readValue(line, Ask.class))));
        }
    }

    private static Said answer(Ask ask) {
        try {
            return switch (ask.sdk) {
                case "openai" -> askOpenAI(ask);
                case "anthropic" -> askAnthropic(ask);
                case "gemini" -> askGemini(ask);
                default -> throw new IllegalArgumentException(ask.sdk);
            };
        } catch (Exception thrown) {
            return Said.failed(told(thrown));
        }
    }

    private static Said askOpenAI(Ask ask) throws JsonProcessingException {
        var builder = OpenAIOkHttpClient.builder().baseUrl(ask.url + "/v1").apiKey(KEY).maxRetries(0);
        ask.headers.forEach(builder::putHeader);
        var body = ChatCompletionCreateParams.builder().model(ask.model).addUserMessage(HI);
        if (ask.tool != null) {
            var parameters = com.openai.core.JsonValue.from(ask.tool.parameters).convert(FunctionParameters.class);
            var function = FunctionDefinition.builder().name(ask.tool.name).description(ask.tool.description).parameters(parameters);
            body.addTool(ChatCompletionFunctionTool.builder().function(function.build()).build());
        }
        OpenAIClient client = builder.build();
        try {
            Answer<ChatCompletion> answer = sayOpenAI(client, body, ask.stream);
            ChatCompletion.Choice choice = answer.whole.choices().get(0);
            long output = answer.whole.usage().orElseThrow().completionTokens();
            Said said = Said.of(choice.message().content().orElse(null), choice.finishReason().asString(), output, answer.pieces);
            List<ChatCompletionMessageToolCall> calls = choice.message().toolCalls().orElse(List.of());
            if (calls.isEmpty()) {
                return said;
            }
            ChatCompletionMessageFunctionToolCall call = calls.get(0).asFunction();
            var result = ChatCompletionToolMessageParam.builder().toolCallId(call.id()).content(ask.result).build();
            body.addMessage(choice.message()).addMessage(result);
            String after = sayOpenAI(client, body, ask.stream).whole.choices().get(0).message().content().orElse(null);
            return said.called(call.function().name(), JSON.readValue(call.function().arguments(), Map.class), after);
        } finally {
            client.close();
        }
    }

    private static Answer<ChatCompletion> sayOpenAI(OpenAIClient client, ChatCompletionCreateParams.Builder body, boolean stream) {
        if (!stream) {
            return new Answer<>(client.chat().completions().create(body.build()), 0);
        }
        var options = ChatCompletionStreamOptions.builder().includeUsage(true).build();
        var whole = ChatCompletionAccumulator.create();
        int pieces = 0;
        try (var chunks = client.chat().completions().createStreaming(body.streamOptions(options).build())) {
            for (ChatCompletionChunk chunk : (Iterable<ChatCompletionChunk>) chunks.stream()::iterator) {
                whole.accumulate(chunk);
                pieces++;
            }
        }
        return new Answer<>(whole.chatCompletion(), pieces);
    }

    private static Said askAnthropic(Ask ask) {
        var builder = AnthropicOkHttpClient.builder().baseUrl(ask.url).apiKey(KEY).maxRetries(0);
        ask.headers.forEach(builder::putHeader);
        var body = MessageCreateParams.builder().model(ask.model).maxTokens(1000).addUserMessage(HI);
        if (ask.tool != null) {
            var schema = com.anthropic.core.JsonValue.from(ask.tool.parameters).convert(com.anthropic.models.messages.Tool.InputSchema.class);
            var tool = com.anthropic.models.messages.Tool.builder().name(ask.tool.name).description(ask.tool.description).inputSchema(schema);
            body.addTool(tool.build());
        }
        AnthropicClient client = builder.build();
        try {
            Answer<Message> answer = sayAnthropic(client, body, ask.stream);
            String finish = answer.whole.stopReason().orElseThrow().asString();
            Said said = Said.of(text(answer.whole), finish, answer.whole.usage().outputTokens(), answer.pieces);
            Optional<ToolUseBlock> call = answer.whole.content().stream().flatMap(block -> block.toolUse().stream()).findFirst();
            if (call.isEmpty()) {
                return said;
            }
            var result = ToolResultBlockParam.builder().toolUseId(call.get().id()).content(ask.result).build();
            body.addMessage(answer.whole).addUserMessageOfContentBlockParams(List.of(ContentBlockParam.ofToolResult(result)));
            String after = text(sayAnthropic(client, body, ask.stream).whole);
            return said.called(call.get().name(), call.get()._input().convert(Map.class), after);
        } finally {
            client.close();
        }
    }

    private static Answer<Message> sayAnthropic(AnthropicClient client, MessageCreateParams.Builder body, boolean stream) {
        if (!stream) {
            return new Answer<>(client.messages().create(body.build()), 0);
        }
        var whole = MessageAccumulator.create();
        int pieces = 0;
        try (var events = client.messages().createStreaming(body.build())) {
            for (RawMessageStreamEvent event : (Iterable<RawMessageStreamEvent>) events.stream()::iterator) {
                whole.accumulate(event);
                pieces++;
            }
        }
        return new Answer<>(whole.message(), pieces);
    }

    private static String text(Message message) {
        StringBuilder text = new StringBuilder();
        for (ContentBlock block : message.content()) {
            text.append(block.text().map(TextBlock::text).orElse(""));
        }
        return text.toString();
    }

    private static Said askGemini(Ask ask) {
        // After a status that it would retry it also waits when no attempt is left.
        var once = HttpRetryOptions.builder().attempts(1).httpStatusCodes(List.of());
        var options = HttpOptions.builder().baseUrl(ask.url).headers(ask.headers).retryOptions(once).build();
        var config = GenerateContentConfig.builder();
        if (ask.tool != null) {
            var function = FunctionDeclaration.builder().name(ask.tool.name).description(ask.tool.description);
            function.parametersJsonSchema(ask.tool.parameters);
            config.tools(com.google.genai.types.Tool.builder().functionDeclarations(function.build()).build());
        }
        List<Content> contents = new ArrayList<>(List.of(Content.builder().role("user").parts(Part.fromText(HI)).build()));
        try (Client client = Client.builder().apiKey(KEY).httpOptions(options).build()) {
            List<GenerateContentResponse> chunks = sayGemini(client, ask, contents, config.build());
            GenerateContentResponse last = chunks.get(chunks.size() - 1);
            int output = last.usageMetadata().orElseThrow().candidatesTokenCount().orElseThrow();
            Said said = Said.of(text(chunks), last.finishReason().toString(), output, ask.stream ? chunks.size() : 0);
            List<Part> parts = chunks.stream().flatMap(chunk -> chunk.parts().stream()).toList();
            Optional<FunctionCall> call = parts.stream().flatMap(part -> part.functionCall().stream()).findFirst();
            if (call.isEmpty()) {
                return said;
            }
            String name = call.get().name().orElseThrow();
            var response = FunctionResponse.builder().name(name).response(Map.of("result", ask.result));
            call.get().id().ifPresent(response::id);
            contents.add(Content.builder().role("model").parts(parts).build());
            contents.add(Content.builder().role("user").parts(Part.builder().functionResponse(response.build()).build()).build());
            return said.called(name, call.get().args().orElseThrow(), text(sayGemini(client, ask, contents, config.build())));
        }
    }

    private static List<GenerateContentResponse> sayGemini(Client client, Ask ask, List<Content> contents, GenerateContentConfig config) {
        if (!ask.stream) {
            return List.of(client.models.generateContent(ask.model, contents, config));
        }
        List<GenerateContentResponse> chunks = new ArrayList<>();
        try (var stream = client.models.generateContentStream(ask.model, contents, config)) {
            stream.forEach(chunks::add);
        }
        return chunks;
    }

    private static String text(List<GenerateContentResponse> chunks) {
        StringBuilder text = new StringBuilder();
        for (GenerateContentResponse chunk : chunks) {
            text.append(Optional.ofNullable(chunk.text()).orElse(""));
        }
        return text.toString();
    }

    /** The exception's class and those above it, by name, as a program would catch it. */
    private static Failure told(Exception thrown) {
        List<String> kinds = new ArrayList<>();
        for (Class<?> kind = thrown.getClass(); kind != null; kind = kind.getSuperclass()) {
            kinds.add(kind.getSimpleName());
        }
        if (thrown instanceof OpenAIServiceException error) {
            return new Failure(kinds, error.statusCode(), error.getMessage(), first(error.headers().values("retry-after")));
        }
        if (thrown instanceof AnthropicServiceException error) {
            return new Failure(kinds, error.statusCode(), error.getMessage(), first(error.headers().values("retry-after")));
        }
        return new Failure(kinds, thrown instanceof ApiException error ? error.code() : 0, String.valueOf(thrown.getMessage()), null);
    }

    private static String first(List<String> values) {
        return values.isEmpty() ? null : values.get(0);
    }
}
