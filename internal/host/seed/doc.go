// Package seed writes a guest's cloud-init seed: an ISO 9660 image labelled
// "cidata" (the NoCloud data source) with the guest's identity and network on one
// particular host.
package seed
