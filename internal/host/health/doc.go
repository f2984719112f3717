// Package health asks the service in the guest whether it answers, over the
// network and at fixed intervals, and tells when it has stopped to.
//
// It judges, it does not act: what follows from a guest that is not healthy is
// decided elsewhere. A wrong "not healthy" may cost a restart of a service that
// works, so there is no verdict while the service may still be starting, and one
// bad answer alone is never a verdict.
//
// The package knows package cluster and the host's clock, never another adapter
// and never the core.
package health
