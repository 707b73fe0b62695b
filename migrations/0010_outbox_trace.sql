-- The trace in which a mail was written (W3C Trace Context), so that sending it is a part of it.
alter table outbox add column traceparent text;
