package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/lib/fail"
)

const (
	beatEvery   = 10 * time.Second // longest silence of a stream
	errorWithin = time.Second      // an error has a code of HTTP; then the stream begins, whether there is something to tell or not
)

// streamer makes a call that has many answers. fill makes its request.
type streamer func(ctx context.Context, client connect.HTTPClient, fill func(protoreflect.Message) error,
	each func(proto.Message) error) error

// streamers are those of all procedures with many answers.
var streamers = map[string]streamer{
	apiv1connect.ClusterServiceWatchStatusProcedure: streamOf[apiv1.WatchStatusRequest, apiv1.WatchStatusResponse](
		apiv1connect.ClusterServiceWatchStatusProcedure),
	apiv1connect.ClusterServiceWatchEventsProcedure: streamOf[apiv1.WatchEventsRequest, apiv1.WatchEventsResponse](
		apiv1connect.ClusterServiceWatchEventsProcedure),
	apiv1connect.ClusterServiceMigrateProcedure: streamOf[apiv1.MigrateRequest, apiv1.MigrateResponse](
		apiv1connect.ClusterServiceMigrateProcedure),
}

func streamOf[Q, A any](procedure string) streamer {
	return func(ctx context.Context, client connect.HTTPClient, fill func(protoreflect.Message) error, each func(proto.Message) error) error {
		req := new(Q)
		if err := fill(any(req).(proto.Message).ProtoReflect()); err != nil {
			return err
		}
		s, err := connect.NewClient[Q, A](client, "http://agent"+procedure).CallServerStream(ctx, connect.NewRequest(req))
		if err != nil {
			return err
		}
		defer s.Close()
		for s.Receive() {
			if err := each(any(s.Msg()).(proto.Message)); err != nil {
				return err
			}
		}
		return s.Err()
	}
}

// stream answers with Server-Sent Events: one for each answer of the call, whose data is JSON; then, where it failed, one
// of the type error. Before the first answer an error is answered as all others are.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, c *call) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	out := &events{w: w, rc: http.NewResponseController(w), check: func() error {
		_, err := h.caller(r)
		if err != nil {
			return err
		}
		return nil
	}}
	beat := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(errorWithin)
		defer tick.Stop()
		for {
			select {
			case <-beat:
				return
			case <-tick.C:
				tick.Reset(beatEvery)
				if err := out.beat(); err != nil {
					cancel(err)
				}
			}
		}
	})
	client := &http.Client{Transport: h.as(c.by)}
	err := streamers[c.procedure](ctx, client, func(m protoreflect.Message) error { return c.fill(r, m) },
		func(m proto.Message) error { return out.send(c, m) })
	close(beat)
	wg.Wait()
	if err == nil {
		return
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	e := asError(err)
	if c.large.Load() {
		h.tooLarge(w, c)
		return
	}
	if !out.begun {
		h.fails(w, e)
		return
	}
	body, merr := json.Marshal(failureOf(api.CodeOf(e.Kind).String(), e))
	if merr == nil {
		merr = out.write("event: error\ndata: " + string(body) + "\n\n")
	}
	if merr != nil {
		h.log.Debug("rest: a stream's end was not taken", "err", merr)
	}
}

// events writes Server-Sent Events.
type events struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	check func() error // whether the token is still one
	mu    sync.Mutex
	begun bool
}

// send sends one answer. One with a number from which the next one goes on has it as its ID.
func (e *events) send(c *call, m proto.Message) error {
	if err := e.check(); err != nil {
		return err
	}
	var text strings.Builder
	if next := m.ProtoReflect().Descriptor().Fields().ByName("next"); next != nil {
		fmt.Fprintf(&text, "id: %d\n", m.ProtoReflect().Get(next).Int())
	}
	var w writer
	err := error(nil)
	if f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(c.answer)); f != nil {
		err = w.field(f, formOf(f), m.ProtoReflect().Get(f))
	} else {
		err = w.message(m.ProtoReflect())
	}
	if err != nil {
		return err
	}
	text.WriteString("data: " + w.String() + "\n\n")
	return e.write(text.String())
}

// beat tells that the stream is there, and ends it with its token.
func (e *events) beat() error {
	if err := e.check(); err != nil {
		return err
	}
	return e.write(": beat\n\n")
}

func (e *events) write(text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.begun {
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.Header().Set("X-Accel-Buffering", "no")
		e.begun = true
	}
	if err := e.rc.SetWriteDeadline(time.Now().Add(bodyTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(e.w, text); err != nil {
		return err
	}
	return e.rc.Flush()
}

// fill makes the message of a request of what the path, the query and the body have.
func (c *call) fill(r *http.Request, m protoreflect.Message) error {
	if err := proto.Unmarshal(c.front, m.Interface()); err != nil {
		return err
	}
	if c.body == "*" {
		if kind := r.Header.Get("Content-Type"); kind != "" && kind != "application/json" && kind != "application/json; charset=utf-8" {
			return fail.Errorf(fail.Invalid, "Content-Type %.70q: want application/json", kind)
		}
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return fail.Errorf(fail.Invalid, "read the body: %w", err)
		}
		if len(data) > 0 {
			if err := read(data, m); err != nil {
				return err
			}
		}
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" && m.Descriptor().Fields().ByName("after") != nil {
		query := r.URL.Query()
		query.Set("after", last) // a browser that comes back goes on where it was
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
	}
	if err := c.params(r, m); err != nil {
		return err
	}
	return proto.UnmarshalOptions{Merge: true}.Unmarshal(c.back, m.Interface())
}
