import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.ServerVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;

/** A server of MongoDB's protocol. Run: java -cp 'jars/*' MongoMain.java PORT FILE */
class MongoMain {
    public static void main(String[] args) throws Exception {
        MongoServer server = new MongoServer(new H2Backend(args[1]).version(ServerVersion.MONGO_5_0));
        server.bind("127.0.0.1", Integer.parseInt(args[0]));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdown));
        Thread.currentThread().join();
    }
}
