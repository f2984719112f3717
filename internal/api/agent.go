package api

import (
	"context"
	"errors"
	"io"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/lib/fail"
)

// The methods of this file are what agents ask of each other.

// GetBundle reads the file of a bundle from an offset on; size is that of the
// whole file, bytes. The reader must be closed.
func (c *Client) GetBundle(ctx context.Context, sha256 string, offset int64) (file io.ReadCloser, size int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	st, err := c.agents.GetBundle(ctx, &apiv1.GetBundleRequest{Sha256: sha256, Offset: offset})
	if err == nil && !st.Receive() {
		err = errors.Join(st.Err(), st.Close())
		if err == nil {
			err = fail.Errorf(fail.Failed, "the agent sent nothing of bundle %s", sha256)
		}
	}
	if err != nil {
		defer cancel() // not before: a context that has ended would explain the error
		return nil, 0, fromWire(ctx, c.target, err)
	}
	size = st.Msg().GetSize()
	r, w := io.Pipe()
	go func() {
		for more := true; more; more = st.Receive() {
			if _, err := w.Write(st.Msg().GetChunk()); err != nil {
				break // the reader was closed
			}
		}
		err := st.Err()
		if err != nil {
			err = fromWire(ctx, c.target, err)
		}
		w.CloseWithError(err) // nil: the end of the file
		st.Close()
	}()
	return &received{r, cancel}, size, nil
}

// received ends the call when it is closed.
type received struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *received) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

// GatherFacts looks at the agent's host.
func (c *Client) GatherFacts(ctx context.Context, w fact.Wanted) (fact.Facts, error) {
	ctx, cancel := within(ctx, lookWithin)
	defer cancel()
	resp, err := c.agents.GatherFacts(ctx, Encode[*apiv1.GatherFactsRequest](w))
	if err != nil {
		return fact.Facts{}, fromWire(ctx, c.target, err)
	}
	return Decode[fact.Facts](resp.GetFacts()), nil
}

// SignCertificate has the agent sign a certificate for this host, whose own is shown by
// the connection. request is PKCS #10, both are PEM.
func (c *Client) SignCertificate(ctx context.Context, which string, request []byte) ([]byte, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.agents.SignCertificate(ctx, &apiv1.SignCertificateRequest{Which: which, Request: request})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return resp.GetCertificate(), nil
}

// SendGuest moves a guest of the agent's host to another host and waits until it
// has moved, over the network (a CIDR, "" for any) when that host has an address in
// it. An agent that does not know networks takes the one by which libvirtd is reached.
func (c *Client) SendGuest(ctx context.Context, uuid, name string, to cluster.HostID, network string) error {
	_, err := c.agents.SendGuest(ctx, &apiv1.SendGuestRequest{Uuid: uuid, Name: name, To: string(to), Network: network})
	if err != nil {
		return fromWire(ctx, c.target, err)
	}
	return nil
}
