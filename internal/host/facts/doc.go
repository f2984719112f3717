// Package facts reads what a host is like before it is upgraded: free space,
// commands, kernels, clock, paths to storage, and what programs of the product
// say. It changes nothing. What it can not read it says, with the reason, and goes
// on: one broken tool does not hide the rest.
package facts
