// Package service is this host's part in upgrades: it plans and begins runs, tells how the last
// one stands, has the executors of their steps, and answers other agents (bundles, facts,
// guests that are to come back). It decides nothing about a run that has begun: which step
// comes next is the planner's word, brought by internal/job/engine.
package service
