//! The functions that the engine runs for us, as one library; nothing else may be run there.

/// The library, as `FUNCTION LOAD` takes it. Each function is called `acg1_` and its word.
pub(crate) const LIBRARY: &str = concat!(
    include_str!("functions/head.lua"),
    "\n",
    include_str!("functions/allowances.lua"),
    "\n",
    include_str!("functions/bucket.lua"),
    "\n",
    include_str!("functions/lists.lua"),
    "\n",
    include_str!("functions/members.lua"),
    "\n",
    include_str!("functions/tokens.lua"),
);

/// Of the library; a later one does all that this one does.
pub(super) const VERSION: i64 = 2;

/// What the gateway's user of the engine may do, as `ACL SETUSER` takes it.
pub(crate) const RIGHTS: &str = "-@all +fcall +time +get +set +del +exists +pttl +pexpire +setrange +hget +hset +hmget \
     +hgetall +hdel +zadd +zcard +zcount +zrange +zrangebyscore +zrem +zremrangebyscore +zscore +xadd +xread +publish \
     +subscribe +ping +hello ~acg1:* &acg1:*";
