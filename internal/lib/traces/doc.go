// Package traces tells a collector of OpenTelemetry, by OTLP over HTTP, what requests and jobs have taken. It is off until
// Start; all calls cost next to nothing then.
//
// Spans wait in a queue of bounded length, which one goroutine sends. When it is full, as the collector does not answer,
// they are dropped: nobody ever waits for it. All times of a job's spans are those of its records, so an agent that was
// restarted meanwhile loses none.
//
// The spans of a job are one trace, whichever hosts they come from: its number, and that of the job's own span, follow from
// the job's id. No span has what a request or an answer has; errors are told without what looks like a secret.
package traces
