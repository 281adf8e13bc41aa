package serve

import (
	"os"
	"time"

	"github.com/fastpull/fastpull/internal/openfiles"
)

const (
	// DefaultPerClient is how many blobs one client may receive at a time by default. That is
	// more than a host needs: docker pulls 3 layers at a time, containerd asks for some ten
	// ranges of each layer, and fastpull has 16 connections. All hosts behind one address share
	// it.
	DefaultPerClient = 64

	mostBlobs       = 1024 // that are sent at a time
	mostConnections = 4096

	connectionsPerBlob = 4  // of a client: some are idle, some wait
	spareFiles         = 32 // descriptors that are left for what is not a request

	headTimeout = 10 * time.Second // for a request, with the body that it should not have
	idleTimeout = 2 * time.Minute  // between requests
	stall       = time.Minute      // in which a client has to take something
	patience    = 20 * time.Second // of a request for its turn
	retryAfter  = 5 * time.Second  // what is told to a client that has to come back
	grace       = 3 * time.Second  // for answers under way when the server ends
)

// limits bound what clients can take of the host.
type limits struct {
	blobs       bound // requests for blobs that are answered at a time
	documents   bound // other requests
	connections bound

	head, idle, stall, patience time.Duration
}

// bound is a most for one client, and for all.
type bound struct{ each, all int }

// within returns the bound with less than all, so that one client never has everything.
func (b bound) within(most int) bound {
	b.all = max(min(b.all, most), 2)
	b.each = max(min(b.each, b.all*3/4), 1)
	return b
}

// newLimits returns the limits for a server that sends one client so many blobs at a time,
// with so many descriptors for each, and may have so many descriptors in all. Half of
// them are for connections.
func newLimits(perClient, filesPerBlob, descriptors int) limits {
	if perClient == 0 {
		perClient = DefaultPerClient
	}
	l := limits{
		blobs:       bound{perClient, max(mostBlobs, 2*perClient)},
		documents:   bound{perClient, max(mostBlobs, 2*perClient)},
		connections: bound{connectionsPerBlob * perClient, max(mostConnections, 2*connectionsPerBlob*perClient)}.within(descriptors / 2),
		head:        headTimeout, idle: idleTimeout, stall: stall, patience: patience,
	}
	if filesPerBlob > 0 {
		l.blobs = l.blobs.within(descriptors / 2 / filesPerBlob)
	}
	return l
}

// descriptors returns how many more files this process can open, some being left.
func descriptors() int {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil { // there may be no /proc
		open = make([]os.DirEntry, spareFiles)
	}
	return openfiles.Limit() - len(open) - spareFiles
}
