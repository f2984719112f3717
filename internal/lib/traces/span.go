package traces

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"holdfast/internal/lib/support"
)

// scope names who makes the spans.
const scope = "holdfast"

// Pair is a fact about a span.
type Pair struct{ Name, Value string }

// pairs are facts as a span has them, without those that are empty.
func pairs(all []Pair) (out []attribute.KeyValue) {
	for _, p := range all {
		if p.Value != "" {
			out = append(out, attribute.String(p.Name, p.Value))
		}
	}
	return out
}

// On reports whether anybody is told.
func On() bool { return tracer.Load() != nil }

// Request begins the span of a request that is answered here; what it asks for in turn is below it. end ends it, with
// what else is known then; why is an error of the one who answers, "" for none.
func Request(ctx context.Context, name string, facts ...Pair) (_ context.Context, end func(why string, facts ...Pair)) {
	p := tracer.Load()
	if p == nil {
		return ctx, func(string, ...Pair) {}
	}
	ctx, span := p.Tracer(scope).Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(pairs(facts)...))
	return ctx, func(why string, facts ...Pair) {
		span.SetAttributes(pairs(facts)...)
		fails(span, why, time.Now())
		span.End()
	}
}

// fails marks a span as failed, where there is a reason.
func fails(span trace.Span, why string, at time.Time) {
	if why == "" || !span.IsRecording() {
		return
	}
	why = string(secrets().Pass([]byte(why)))
	span.SetStatus(codes.Error, why)
	span.AddEvent("exception", trace.WithTimestamp(at), trace.WithAttributes(attribute.String("exception.message", why)))
}

// secrets removes what looks like one.
var secrets = sync.OnceValue(func() *support.Redactor { return support.NewRedactor(nil) })

// Work is a job, or a step of one, that has ended.
type Work struct {
	Job, Name    string // the job's id; what the span is called
	Began, Ended time.Time
	Why          string // it has failed; "": it has not
	Facts        []Pair
}

// Job tells of a job.
func Job(w Work) { tell(context.WithValue(context.Background(), jobKey{}, w.Job), w) }

// Step tells of one of its steps.
func Step(w Work) {
	id, span := numbers(w.Job)
	tell(trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true})), w)
}

// tell makes the span of something that is over.
func tell(ctx context.Context, w Work) {
	p := tracer.Load()
	if p == nil || w.Began.IsZero() {
		return
	}
	facts := append([]Pair{{"holdfast.job", w.Job}}, w.Facts...)
	_, span := p.Tracer(scope).Start(ctx, w.Name, trace.WithTimestamp(w.Began), trace.WithAttributes(pairs(facts)...))
	fails(span, w.Why, w.Ended)
	span.End(trace.WithTimestamp(w.Ended))
}

// Number is a fact that is a number.
func Number(name string, n int) Pair { return Pair{name, strconv.Itoa(n)} }

// jobKey has the id of a job whose own span is made.
type jobKey struct{}

// numbers are those of a job's trace and of its own span.
func numbers(job string) (id trace.TraceID, span trace.SpanID) {
	sum := sha256.Sum256([]byte("holdfast job " + job))
	copy(id[:], sum[:])
	copy(span[:], sum[len(id):])
	return id, span
}

// ids gives numbers to spans: those of jobs follow from their ids, others are random.
type ids struct{}

// NewIDs gives those of a span that none is above.
func (ids) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	if job, is := ctx.Value(jobKey{}).(string); is {
		return numbers(job)
	}
	random(id[:])
	random(span[:])
	return id, span
}

// NewSpanID gives that of a span below another one.
func (ids) NewSpanID(context.Context, trace.TraceID) (span trace.SpanID) {
	random(span[:])
	return span
}

func random(to []byte) {
	for i := range to {
		to[i] = byte(rand.Uint32())
	}
	to[0] |= 1 // zero is no number
}

// sampler takes all spans of jobs, and a share of requests: with one, all below it.
type sampler struct{ share sdk.Sampler }

// ShouldSample decides about a span.
func (s sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	above := trace.SpanContextFromContext(p.ParentContext)
	if _, job := p.ParentContext.Value(jobKey{}).(string); job || above.IsSampled() {
		return sdk.SamplingResult{Decision: sdk.RecordAndSample}
	}
	if above.IsValid() {
		return sdk.SamplingResult{Decision: sdk.Drop}
	}
	return s.share.ShouldSample(p)
}

// Description is for people.
func (s sampler) Description() string { return "jobs, and of requests " + s.share.Description() }
