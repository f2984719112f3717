package rest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"holdfast/internal/cluster"
	"holdfast/internal/server"
	"holdfast/internal/store/storetest"
	"holdfast/internal/web/access"
	"holdfast/testbed/try"
)

// cut is an agent whose answers end before their end.
type cut struct{ begin string }

func (c cut) RoundTrip(*http.Request) (*http.Response, error) {
	if c.begin == "" {
		return nil, errors.New("it has gone")
	}
	body := io.MultiReader(strings.NewReader(c.begin[1:]), iotest.ErrReader(errors.New("it has gone")))
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/proto"}}, Body: io.NopCloser(body)}, nil
}

// TestAnAnswerThatIsCutShort is not taken for one, also where it could be read.
func TestAnAnswerThatIsCutShort(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	users := access.New(storetest.NewMem().NewClient("node1"), "node1", log)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { try.Must(t, users.Run(ctx)) })
	defer wg.Wait()
	defer cancel()
	_, secret, err := users.CreateToken(t.Context(), "root", "x", cluster.Operator, 1)
	try.Must(t, err)
	for _, begin := range []string{"", "-", "-\x0a"} { // none, nothing of a message, a part of one
		h := newHandler(func(server.Caller) http.RoundTripper { return cut{begin} }, users, log)
		srv := httptest.NewServer(h)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+root+"/management-vm:stop", nil)
		try.Must(t, err)
		r.Header.Set("Authorization", "Bearer "+secret)
		resp, err := srv.Client().Do(r)
		try.Must(t, err)
		body, err := io.ReadAll(resp.Body)
		try.Must(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != http.StatusBadGateway || !strings.Contains(string(body), "may have done what was asked for") {
			t.Errorf("%q: %d: %s", begin, resp.StatusCode, body)
		}
		srv.Close()
	}
}
