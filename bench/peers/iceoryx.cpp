// iceoryx.cpp: iceoryx's untyped publisher and subscriber, which wait for each other (BLOCK_PRODUCER) and poll; its daemon, iox-roudi, must run.
#include "peer.h"

#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>

#define ANY_SIZE

struct queue {
	iox::popo::UntypedPublisher *publisher;
	iox::popo::UntypedSubscriber *subscriber;
};

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	const char *base = strrchr(r->dir, '/');
	base = base ? base + 1 : r->dir;
	char name[128], instance[128];
	snprintf(name, sizeof name, "%.80s-%d", base, r->index);
	snprintf(instance, sizeof instance, "%.80s-%d", base, which);
	iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kWarn, iox::log::LogLevelOutput::kHideLogLevel);
	if (which == 0)
		iox::runtime::PoshRuntime::initRuntime(iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name));
	iox::capro::ServiceDescription service{"millrace", "bench", iox::capro::IdString_t(iox::cxx::TruncateToCapacity, instance)};
	uint64_t depth = (4u << 20) / size; // the daemon has chunks for so much
	depth = depth > 256 ? 256 : depth < 2 ? 2 : depth; // 256 is the most that a subscriber may have
	if ((r->index < r->senders) == (which == 0)) {
		iox::popo::PublisherOptions o;
		o.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
		q->publisher = new iox::popo::UntypedPublisher(service, o);
	} else {
		iox::popo::SubscriberOptions o;
		o.queueCapacity = depth;
		o.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
		q->subscriber = new iox::popo::UntypedSubscriber(service, o);
	}
}

static void queue_arm(queue *q, struct run *, int)
{
	if (q->publisher)
		while (!q->publisher->hasSubscribers())
			usleep(1000);
	else
		while (q->subscriber->getSubscriptionState() != iox::SubscribeState::SUBSCRIBED)
			usleep(1000);
}

INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	int sent = 0;
	q->publisher->loan((uint32_t)size).and_then([&](void *p) {
		memcpy(p, msg, size);
		q->publisher->publish(p);
		sent = 1;
	});
	return sent;
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	int received = 0;
	q->subscriber->take().and_then([&](const void *p) {
		memcpy(buf, p, size);
		q->subscriber->release(p);
		received = 1;
	});
	return received;
}

#include "loops.h"
