"""Which published model this machine runs well: what is known of each, and a probe of this machine's speed."""
