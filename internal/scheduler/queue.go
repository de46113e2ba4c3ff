package scheduler

import "container/heap"

// Who is next for a slot of one model: start-time fair queueing (Goyal, Vin, Cheng
// 1996) on tokens over weight, in each of two classes.
//
// A flow's next request has the start tag max(v, the flow's finish tag); the
// request with the least start tag is served, v becomes that tag, and the flow's
// finish tag becomes start + tokens/weight. What the tokens really came to is put
// right in the finish tag when the slot comes back, but for the least that a request
// is charged: a flow whose requests come to nothing would be the first for ever. With
// L the most tokens that a request is charged, while a request is the first of its
// flow f the tokens that another flow g of its class takes are at most
//
//	w(g)·L/w(f) + L
//
// since f's start tag is at most L/w(f) beyond v; what f itself was charged beside
// its grants (a swap, slots that it took because they were idle) comes to that L.
// Interactive is served before batch, but for each token that it is granted while
// batch waits, batch earns BatchShare/(1-BatchShare) of a token, and is served when it
// has earned its next request; so batch waits for at most
//
//	L·(1-BatchShare)/BatchShare + L
//
// tokens of interactive work for each of its own grants, the last L since requests are
// not cut in two. The bounds are what the property tests hold the queue to.
type queue struct {
	class  [2]class
	earned float64 // tokens that batch may take before interactive
	n      int
	tokens int64  // of all who wait
	bug    string // of the tests, see State
}

// class is the flows of one class.
type class struct {
	flows  map[string]*flow
	active flowHeap // those with somebody waiting
	v      float64
	n      int
	pops   int
}

// flow is whose requests they are.
type flow struct {
	name   string
	weight float64
	finish float64
	// start is the tag of the first who waits; seq is when he came to be first, which
	// decides between equal tags.
	start float64
	seq   uint64
	at    int // in the heap; -1: nobody waits
	waits []*request
}

// flowHeap is a container/heap of active flows.
type flowHeap []*flow

func (h flowHeap) Len() int { return len(h) }
func (h flowHeap) Less(i, j int) bool {
	return h[i].start < h[j].start || h[i].start == h[j].start && h[i].seq < h[j].seq
}
func (h flowHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }

// Push implements heap.Interface.
func (h *flowHeap) Push(x any) {
	f := x.(*flow)
	f.at = len(*h)
	*h = append(*h, f)
}

// Pop implements heap.Interface.
func (h *flowHeap) Pop() any {
	old := *h
	f := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	f.at = -1
	return f
}

// leastWeight and its inverse bound a weight, so that tags stay finite.
const leastWeight = 0.001

func (c *class) flow(name string, weight float64) *flow {
	f := c.flows[name]
	if f == nil {
		if c.flows == nil {
			c.flows = map[string]*flow{}
		}
		f = &flow{name: name, at: -1}
		c.flows[name] = f
	}
	if !(weight > 0) { // nor is no number one
		weight = 1
	}
	f.weight = min(max(weight, leastWeight), 1/leastWeight)
	return f
}

// push queues a request.
func (q *queue) push(r *request, seq uint64) {
	c := &q.class[r.Class]
	f := c.flow(r.Flow, r.Weight)
	r.flow = f
	f.waits = append(f.waits, r)
	c.n++
	q.n++
	q.tokens += int64(r.Tokens)
	if f.at < 0 {
		f.start, f.seq = max(c.v, f.finish), seq
		heap.Push(&c.active, f)
	}
}

// remove takes a request out that waits.
func (q *queue) remove(r *request) {
	c, f := &q.class[r.Class], r.flow
	for i, o := range f.waits {
		if o == r {
			f.waits = append(f.waits[:i:i], f.waits[i+1:]...)
			break
		}
	}
	q.took(c, r)
	if len(f.waits) == 0 && f.at >= 0 {
		heap.Remove(&c.active, f.at)
	}
	q.settle(c)
}

func (q *queue) took(c *class, r *request) {
	c.n--
	q.n--
	q.tokens -= int64(r.Tokens)
	if q.class[Batch].n == 0 || q.bug == "forget earned" && q.class[Interactive].n == 0 {
		q.earned = 0 // not where only nobody interactive waits: the next may come before a slot is free
	}
}

// next says whose turn it is, nil when nobody waits.
func (q *queue) next(batchShare float64) *request {
	i, b := &q.class[Interactive], &q.class[Batch]
	switch {
	case i.n == 0 && b.n == 0:
		return nil
	case i.n == 0:
		return b.active[0].waits[0]
	case b.n == 0:
		return i.active[0].waits[0]
	}
	first := b.active[0].waits[0]
	if q.earned >= float64(first.Tokens) {
		return first
	}
	return i.active[0].waits[0]
}

// pop takes the first of a flow, whose turn it is by next.
func (q *queue) pop(r *request, batchShare float64, seq uint64) {
	c, f := &q.class[r.Class], r.flow
	tokens := float64(r.Tokens)
	switch {
	case r.Class == Interactive && q.class[Batch].n > 0:
		q.earned += tokens * batchShare / (1 - batchShare)
	case r.Class == Batch:
		q.earned = max(0, q.earned-tokens)
	}
	f.waits[0] = nil
	f.waits = f.waits[1:]
	q.took(c, r)
	c.v = f.start
	f.finish = f.start + tokens/f.weight
	if len(f.waits) == 0 {
		f.waits = nil
		heap.Remove(&c.active, f.at)
	} else {
		f.start, f.seq = f.finish, seq
		heap.Fix(&c.active, f.at)
	}
	q.settle(c)
}

// charge adds tokens, or takes them off, of a flow: what a grant beside the queue
// takes, what a swap costs, what a request took more or less than it was charged.
func (q *queue) charge(cl Class, name string, weight float64, tokens int) {
	c := &q.class[cl]
	if tokens <= 0 && c.flows[name] == nil {
		return // it was forgotten with nothing owed
	}
	f := c.flow(name, weight)
	f.finish = max(c.v, max(c.v, f.finish)+float64(tokens)/f.weight)
	if f.at >= 0 {
		f.start = max(c.v, f.start+float64(tokens)/f.weight)
		heap.Fix(&c.active, f.at)
	}
}

// settle forgets flows that owe nothing, now and then, so that clients that come
// once do not add up.
func (q *queue) settle(c *class) {
	if c.pops++; c.pops < 64 && c.n > 0 {
		return
	}
	c.pops = 0
	if len(c.flows) < 64 {
		return
	}
	if c.n == 0 { // the end of a busy time: what is owed is owed to nobody
		c.flows, c.v = nil, 0
		return
	}
	for name, f := range c.flows { // the order does not matter: each is judged by itself
		if f.at < 0 && f.finish <= c.v {
			delete(c.flows, name)
		}
	}
}

// oldest is the request that has waited longest among the firsts of the flows, nil
// when nobody waits.
func (q *queue) oldest() *request {
	var old *request
	for i := range q.class {
		for _, f := range q.class[i].active {
			if r := f.waits[0]; old == nil || r.seq < old.seq {
				old = r
			}
		}
	}
	return old
}

// ahead is how many flows would be served before this request's, for people.
func (q *queue) ahead(r *request) (n int) {
	if r.Class == Batch {
		n = len(q.class[Interactive].active)
	}
	for _, f := range q.class[r.Class].active {
		if f != r.flow && f.start <= r.flow.start {
			n++
		}
	}
	return n
}

// all lists who waits, by flow.
func (q *queue) all() (out []*request) {
	for _, cl := range []Class{Interactive, Batch} {
		c := &q.class[cl]
		for _, f := range c.active {
			out = append(out, f.waits...)
		}
	}
	return out
}
