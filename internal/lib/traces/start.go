package traces

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Options say where spans go.
type Options struct {
	Endpoint  string  // http://HOST:PORT or https://HOST:PORT, with a path or without: then /v1/traces
	CA        string  // PEM file, who has signed the collector's certificate; "": those the system trusts
	TokenFile string  // has the token that the collector wants as a bearer's; "": none
	Sample    float64 // share of requests that are told, 0 to 1; jobs always are
	Host      string
	Cluster   string
	Version   string
	Log       *slog.Logger
}

// Bounds of what waits, and of one attempt to send.
const (
	queue      = 2048 // spans
	batch      = 256  // spans
	sendEvery  = 5 * time.Second
	sendWithin = 5 * time.Second
	endWithin  = time.Second
	tellEvery  = 10 * time.Minute
	path       = "/v1/traces"
)

// tracer makes spans; nil: nobody is told.
var tracer atomic.Pointer[sdk.TracerProvider]

// Start begins to tell. It does not wait for the collector. stop sends what waits, within a second, and ends it.
func Start(o Options) (stop func(), err error) {
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	exporter := otlptrace.NewUnstarted(client)
	if err := exporter.Start(context.Background()); err != nil { // it connects to nothing
		return nil, fmt.Errorf("traces: %w", err)
	}
	told := &trouble{log: o.Log}
	otel.SetErrorHandler(told)
	p := sdk.NewTracerProvider(
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "holdfast"), attribute.String("service.version", o.Version),
			attribute.String("service.namespace", o.Cluster), attribute.String("service.instance.id", o.Host),
			attribute.String("host.name", o.Host))),
		sdk.WithSampler(sampler{sdk.TraceIDRatioBased(o.Sample)}), sdk.WithIDGenerator(ids{}), sdk.WithRawSpanLimits(limits()),
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(queue), sdk.WithMaxExportBatchSize(batch), sdk.WithBatchTimeout(sendEvery),
			sdk.WithExportTimeout(sendWithin)),
	)
	tracer.Store(p)
	return func() {
		tracer.Store(nil)
		ctx, cancel := context.WithTimeout(context.Background(), endWithin)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			told.Handle(err)
		}
	}, nil
}

// client sends to the collector: once, as what comes next is worth as much.
func (o Options) client() (otlptrace.Client, error) {
	at := o.Endpoint
	if scheme, rest, _ := strings.Cut(at, "://"); !strings.Contains(rest, "/") {
		at = scheme + "://" + rest + path
	}
	opts := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(at), otlptracehttp.WithTimeout(sendWithin),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false})}
	if o.TokenFile != "" {
		b, err := os.ReadFile(o.TokenFile)
		token := strings.TrimSpace(string(b))
		if err == nil && (token == "" || strings.ContainsAny(token, "\r\n")) {
			err = errors.New("want one line")
		}
		if err != nil {
			return nil, fmt.Errorf("traces.token_file: value %q: %w", o.TokenFile, err)
		}
		opts = append(opts, otlptracehttp.WithHeaders(map[string]string{"Authorization": "Bearer " + token}))
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		roots := x509.NewCertPool()
		if err == nil && !roots.AppendCertsFromPEM(pem) {
			err = errors.New("want certificates as PEM")
		}
		if err != nil {
			return nil, fmt.Errorf("traces.ca: value %q: %w", o.CA, err)
		}
		opts = append(opts, otlptracehttp.WithTLSClientConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	}
	return otlptracehttp.NewClient(opts...), nil
}

// limits bound a span.
func limits() sdk.SpanLimits {
	l := sdk.NewSpanLimits()
	l.AttributeValueLengthLimit, l.AttributeCountLimit, l.EventCountLimit, l.LinkCountLimit = 1024, 32, 8, 8
	return l
}

// trouble logs why spans are not taken, now and then.
type trouble struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
}

// Handle takes an error of the exporter.
func (t *trouble) Handle(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); t.last.IsZero() || now.Sub(t.last) > tellEvery {
		t.last = now
		t.log.Warn("traces are not taken by their collector; nothing else is the worse for it", "err", err)
	}
}
