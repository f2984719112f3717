package etcdstore

import (
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// secrets are keys that only members see; one that ends in a slash stands for all keys below it.
type secrets []string

func (s secrets) has(key string) bool {
	return slices.ContainsFunc(s, func(secret string) bool {
		return key == secret || strings.HasSuffix(secret, "/") && strings.HasPrefix(key, secret)
	})
}

// among returns a secret of which a range holds something, "" for none. The range is as in etcd: without an end it is one
// key, and an end of one zero byte means that there is no end.
func (s secrets) among(from, end string) string {
	for _, secret := range s {
		below := strings.HasSuffix(secret, "/")
		switch last := clientv3.GetPrefixRangeEnd(secret); {
		case end == "" && (from == secret || below && strings.HasPrefix(from, secret)):
			return secret
		case end == "":
		case !below && covers(from, end, secret), below && from < last && (end == "\x00" || end > secret):
			return secret
		}
	}
	return ""
}
