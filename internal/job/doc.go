// Package job is what all long work is made of: a job is a plan of steps on
// hosts, and a journal that says how far each has come. It holds the records and
// the rules of their changes, and does nothing itself: package engine carries
// jobs out, and a Planner (the upgrade's, for one) says which step may begin.
//
// A step is begun in two writes. The coordinator grants it, comparing its term
// and the job's revision; the host's agent claims it, comparing the step's
// revision, and runs it. So a coordinator that was deposed begins nothing, and no
// two agents run one step. An agent that finds a step claimed by an earlier
// process of its own asks whether it was done before it does anything else.
//
// Agents of different versions take part in one job as long as their Generation is
// at most one apart, from each other and from the agent that has made the plan.
package job
