// Package host is this host's part in a two-node pair: what the group is made of here by the configuration, the
// partition beside the data, the orders of people, and what an agent has left of it when a host is retired.
//
//	host.go         the copy of the data and the members of the group
//	device.go       a copy that is a DRBD device, and what stands on it
//	partition.go    the partition is made what the configuration says
//	order.go        a partition is added and removed
//	arbitration.go  this host's part in a store of two voters
//	answers.go      what the agent answers for the pair
//	guests.go       what jobs that empty hosts know of it
//	end.go          all of it ends
package host
