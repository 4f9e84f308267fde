// An application in Go that knows nothing of the sidecar: one conversation with its provider.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	body := `{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi there"}]}`
	answer, err := http.Post("https://api.openai.com/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	text, err := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, answer.Header.Get("x-attache-provider"), string(text), err)
}
