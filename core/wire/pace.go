package wire

// pace is how many RESETs the side that opens calls sends between two of its ticks (W-FLOW-14): its peer, whose ticks fall otherwise, and who
// may get at once what was written in two seconds, closes the connection for more than four times as many, and every call on it is lost.
func (c *Conn) pace() int { return max(250, int(c.peer.MaxStreams)) }

// delayed are RESETs that wait for the next tick. Their streams are closed here and open at the peer, whom they count against.
type delayed struct {
	heads map[uint32][]byte // by stream
	order []uint32          // streams; some may have been ended by the peer since
}

// maxDelayed is the longest head of a RESET that waits: what one says beside the code is dropped.
const maxDelayed = 512

// reset queues a RESET now, or at a later tick. head may be scratchHead.
func (c *Conn) reset(id uint32, head []byte) {
	if c.opens {
		if c.resets >= c.pace() {
			c.delay(id, head)
			return
		}
		c.resets++
	}
	c.appendFrame(id, TypeReset, 0, head)
}

func (c *Conn) delay(id uint32, head []byte) {
	d := &c.delayed
	if d.heads == nil {
		d.heads = make(map[uint32][]byte)
	}
	if len(head) > maxDelayed {
		var r ResetHead
		if r.Parse(head) != nil {
			r.Status = Refuse(ReasonStreamProtocol, c.origin, "")
		}
		head = r.short(nil)
	}
	if len(d.order) > 2*len(d.heads)+64 { // the peer ends them as fast as they come
		all := d.order
		d.order = d.order[:0]
		for _, one := range all {
			if _, waits := d.heads[one]; waits {
				d.order = append(d.order, one)
			}
		}
	}
	d.heads[id] = append([]byte(nil), head...)
	d.order = append(d.order, id)
}

// short appends the head without text and details.
func (r *ResetHead) short(dst []byte) []byte {
	short := *r
	short.Status.Details, short.Status.Message = nil, nil
	return short.Append(dst)
}

// sendDelayed queues the RESETs that have waited, as many as may go.
func (c *Conn) sendDelayed() {
	d := &c.delayed
	for len(d.order) > 0 && c.resets < c.pace() {
		id := d.order[0]
		d.order = d.order[1:]
		if head, waits := d.heads[id]; waits {
			delete(d.heads, id)
			c.resets++
			c.appendFrame(id, TypeReset, 0, head)
		}
	}
	if len(d.heads) == 0 {
		c.delayed = delayed{}
	}
}
