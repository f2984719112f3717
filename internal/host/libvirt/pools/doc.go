// Package pools lists, starts, stops and redefines the storage pools of this host's libvirt, and tells of the content
// of disks whether other hosts have it, too. It looks at file systems, block devices and iSCSI sessions by what the
// kernel says of them. Whoever has the guests tells it which of them use a pool.
package pools
