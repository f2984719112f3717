// Package survey asks hosts what they are like, before, in the middle of and after
// an upgrade, and has the answers judged by package check. It is the Executor of the
// steps that check.
package survey
