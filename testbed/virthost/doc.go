// Package virthost simulates hosts with a libvirtd of their own, for tests: the test binary again, as the first
// process of its own mount, PID, network, IPC and UTS namespaces. It starts a private libvirtd, and carries
// out what the test asks for over its standard input: what this package knows, and what the package of the
// test adds (see [Main]). When that ends, so does it, and the kernel ends everything of the host with it.
package virthost
