// Package certificates renews the certificates of this host in time: those of the
// agent and of the store's member, and those of libvirtd and QEMU if an authority of the
// cluster has signed them. They are signed with the authority's key where that lies on
// this host, else by a member. What is renewed is read back from where it is presented.
// See docs/adr/0035.
package certificates
